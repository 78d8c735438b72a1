"""COCO files, read by pycocotools, and YOLO's text files."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from fcnseg.errors import SettingsError
from fcnseg.io.storage import LocalFolder
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running import coco_table
from fcnseg.running.coco_table import CocoTable, refuse_several_heads
from fcnseg.running.yolo_sink import YoloSink
from fcnseg.types import EngineInfo, Frame, Labels, Prediction
from tests.running.test_outlines import rasterised

SPACE = LabelSpace(tuple("abcde"), tuple(voc_color(i) for i in range(5)))
INFO = EngineInfo("fake", "cpu", "fp32", "net", "abc", {"labels": SPACE}, ("color",), {"fcnseg": "1"})


def label_maps() -> dict[str, Labels]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 5, (21, 34), dtype=np.uint8)
    noise[rng.random(noise.shape) < 0.2] = 255
    blocks = rng.integers(1, 5, (4, 3), dtype=np.uint8).repeat(9, 0).repeat(13, 1)
    return {"x/noise.jpg": noise, "blocks.jpg": blocks, "void.jpg": np.full((3, 4), 255, np.uint8)}


def frame(key: str, labels: Labels) -> Frame:
    return Frame(key, key[:-4], {"color": np.zeros((*labels.shape, 3), np.uint8)})


def written(table: CocoTable, maps: dict[str, Labels]) -> bytes:
    file = io.BytesIO()
    table.write(file, ((k, table.entry(frame(k, v), Prediction({"labels": v}))) for k, v in maps.items()))
    return file.getvalue()


@pytest.mark.parametrize("tolerance", [None, 0])
def test_pycocotools_reads_the_label_maps_again(tmp_path: Path, tolerance: float | None) -> None:
    maps = label_maps()
    (tmp_path / "c.json").write_bytes(written(CocoTable(INFO, range(5), tolerance), maps))
    found = COCO(tmp_path / "c.json")
    assert {c["id"]: c["name"] for c in found.loadCats(found.getCatIds())} == dict(enumerate("abcde"))
    assert [image["file_name"] for image in found.loadImgs(found.getImgIds())] == list(maps)
    assert sorted(found.anns) == list(range(1, len(found.anns) + 1))
    for image in found.loadImgs(found.getImgIds()):
        expected = maps[image["file_name"]]
        labels = np.full((image["height"], image["width"]), 255, np.uint8)
        for annotation in found.loadAnns(found.getAnnIds(image["id"])):
            mask = found.annToMask(annotation).astype(bool)
            assert isinstance(annotation["segmentation"], list if tolerance == 0 else dict)
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            labels[mask] = annotation["category_id"]
        assert np.array_equal(labels, expected)


def test_annotations_wait_on_disk_and_the_file_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = CocoTable(INFO, range(5), 0)
    in_memory = written(table, label_maps())
    monkeypatch.setattr(coco_table, "SPOOL_BYTES", 10)
    with (tmp_path / "c.json").open("wb") as file:
        maps = label_maps().items()
        table.write(file, ((k, table.entry(frame(k, v), Prediction({"labels": v}))) for k, v in maps))
    assert (tmp_path / "c.json").read_bytes() == in_memory
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]
    assert json.loads(written(table, {}))["images"] == []


def test_classes_alone_are_annotated(tmp_path: Path) -> None:
    found = json.loads(written(CocoTable(INFO, (1, 3)), label_maps()))
    assert [category["name"] for category in found["categories"]] == ["b", "d"]
    assert {annotation["category_id"] for annotation in found["annotations"]} == {1, 3}
    labels = label_maps()["x/noise.jpg"]
    sink = YoloSink(LocalFolder(tmp_path), INFO, {"labels": (1, 3)})
    ((_, content),) = sink.encode(frame("x", labels), Prediction({"labels": labels}))
    assert {line[:2] for line in b"".join(map(bytes, content)).splitlines()} == {b"1 ", b"3 "}


def test_yolo_lines_are_the_label_map() -> None:
    for labels in label_maps().values():
        sink = YoloSink(LocalFolder("nowhere"), INFO, {"labels": tuple(range(5))})
        ((name, content),) = sink.encode(frame("a/b.jpg", labels), Prediction({"labels": labels}))
        assert name == "a/b.txt"
        again = np.full_like(labels, 255)
        height, width = labels.shape
        for line in b"".join(map(bytes, content)).decode().splitlines():
            label, *shares = line.split()
            corners = np.array(shares, float).reshape(-1, 2)
            assert corners.min() >= 0
            assert corners.max() <= 1
            again[rasterised([corners * (width, height)], height, width)] = int(label)
        assert np.array_equal(again, labels)


def test_a_file_of_two_heads_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"net has the heads a and b, .* use --yolo"):
        refuse_several_heads("net", {"a": SPACE, "b": SPACE})
    refuse_several_heads("net", replace(INFO).heads)
