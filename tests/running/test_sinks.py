import errno
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError, SettingsError
from fcnseg.io.atomic import checksum
from fcnseg.io.images import pixels_of
from fcnseg.io.overlays import overlay
from fcnseg.io.storage import LocalFolder
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running.finish import write_legend
from fcnseg.running.options import RunOptions
from fcnseg.running.output_kinds import KINDS
from fcnseg.running.picture_sinks import ColorPngSink, CutoutSink, MaskSink, OverlaySink, class_folder
from fcnseg.running.sinks import LabelPngSink, NpyProbabilitySink
from fcnseg.types import EngineInfo, Frame, Output, Prediction, Sink
from tests.conftest import mounted

PALETTE = bytes(range(256)) * 3


def info(*classes: int, names: str = "class {}") -> EngineInfo:
    heads = {
        f"head{i}": LabelSpace(tuple(map(names.format, range(k))), tuple(voc_color(j % 256) for j in range(k)), 65535)
        for i, k in enumerate(classes)
    }
    return EngineInfo("fake", "cpu", "fp32", "net", "abc", heads, ("color",), {"fcnseg": "1"})


def frame(stem: str, height: int = 3, width: int = 4) -> Frame:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(f"{stem}.jpg", stem, {"color": pixels})


def written(sink: Sink, frame: Frame, prediction: Prediction) -> tuple[Output, ...]:
    """Encode and place, with the errors of both as they are."""
    return tuple(sink.storage.place(name, content) for name, content in sink.encode(frame, prediction))


@pytest.mark.filterwarnings("ignore:.*TorchVision:DeprecationWarning", "ignore:.*torchvision:DeprecationWarning")
def test_torchvision_reads_them_too(tmp_path: Path) -> None:
    from torchvision.io import ImageReadMode, read_image

    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    written(LabelPngSink(LocalFolder(tmp_path), info(21)), frame("a"), Prediction({"head0": labels}))
    colors = read_image(str(tmp_path / "a.png"), ImageReadMode.RGB).permute(1, 2, 0).numpy()
    assert [tuple(c) for c in colors.reshape(-1, 3).tolist()] == [voc_color(i) for i in range(12)]


def test_a_label_map_is_an_indexed_png_whose_values_are_classes(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (output,) = written(LabelPngSink(LocalFolder(tmp_path), info(21)), frame("a/b.c"), Prediction({"head0": labels}))
    assert output.location == str(tmp_path / "a/b.c.png")
    assert (output.size, output.checksum) == (Path(output.location).stat().st_size, checksum(Path(output.location)))
    with Image.open(output.location) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert image.convert("RGB").getpixel((1, 0)) == voc_color(1)
        assert image.text == {"Software": "fcnseg 1", "fcnseg:model": "net", "fcnseg:weights": "abc"}
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["b.c.png"]


def test_more_than_256_classes_give_16_bits(tmp_path: Path) -> None:
    labels = np.array([[0, 299]], np.uint16)
    written(LabelPngSink(LocalFolder(tmp_path), info(300)), frame("a"), Prediction({"head0": labels}))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), labels)


def test_several_heads_get_a_folder_each(tmp_path: Path) -> None:
    sink = LabelPngSink(LocalFolder(tmp_path), info(33, 3))
    maps = {"head0": np.zeros((1, 1), np.uint8), "head1": np.ones((1, 1), np.uint8)}
    outputs = written(sink, frame("x/a"), Prediction(maps))
    assert (
        [Path(o.location) for o in outputs]
        == [tmp_path / name.of("x/a") for name in sink.names]
        == [tmp_path / "head0/x/a.png", tmp_path / "head1/x/a.png"]
    )
    assert np.asarray(Image.open(tmp_path / "head1/x/a.png")).item() == 1


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_probabilities_keep_their_axes_and_type(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).random((5, 2, 3), dtype=np.float32)
    sink = NpyProbabilitySink(LocalFolder(tmp_path), info(5), dtype)
    (output,) = written(sink, frame("a"), Prediction({}, {"head0": values}))
    assert Path(output.location) == tmp_path / sink.names[0].of("a") == tmp_path / "a.npy"
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == dtype
    assert np.array_equal(found, values.astype(dtype))


def test_probabilities_that_are_a_view_are_written_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3, 5), dtype=np.float32).transpose(2, 0, 1)
    written(
        NpyProbabilitySink(LocalFolder(tmp_path), info(5), "float32"), frame("a"), Prediction({}, {"head0": values})
    )
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)


@pytest.mark.parametrize(("classes", "dtype"), [(5, np.uint8), (300, np.uint16)])
def test_the_most_probable_classes_alone(tmp_path: Path, classes: int, dtype: type) -> None:
    values = np.random.default_rng(0).random((classes, 2, 3), dtype=np.float32)
    values[:, 0, 0] = 0.5  # a tie: the lower class first
    sink = NpyProbabilitySink(LocalFolder(tmp_path), info(classes), "float32", top_k=3)
    first = written(sink, frame("a"), Prediction({}, {"head0": values}))
    with np.load(tmp_path / "a.npz") as found:
        assert found["classes"].dtype == dtype
        assert found["classes"][:, 0, 0].tolist() == [0, 1, 2]
        assert np.array_equal(found["probabilities"], np.sort(values, axis=0)[::-1][:3])
        assert np.array_equal(np.take_along_axis(values, found["classes"].astype(int), 0), found["probabilities"])
    assert written(sink, frame("a"), Prediction({}, {"head0": values})) == first


def test_overlays_show_the_image_and_its_labels(tmp_path: Path) -> None:
    pixels = np.broadcast_to(np.linspace(0, 255, 1500)[:, None, None], (1500, 40, 3)).astype(np.uint8)
    one, labels = (
        Frame("a.jpg", "a", {"color": pixels}),
        np.repeat(np.arange(1500)[:, None] // 300, 40, 1).astype(np.uint8),
    )
    written(OverlaySink(LocalFolder(tmp_path), info(5), opacity=0.7), one, Prediction({"head0": labels}))
    with Image.open(tmp_path / "a.jpg") as image:
        found = np.asarray(image).astype(int)
    wanted = overlay(one.inputs["color"], labels, info(5).heads["head0"], 0.7).astype(int)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).mean() < 2  # JPEG is lossy


def test_the_legend_is_for_people_and_programs(tmp_path: Path) -> None:
    import json

    write_legend(tmp_path, info(3, 2))
    described = json.loads((tmp_path / "classes.json").read_text())
    assert described["head1"]["classes"][1] == {"index": 1, "name": "class 1", "color": [128, 0, 0]}
    assert described["head0"]["ignore"] == 65535
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["legend-head0.png", "legend-head1.png"]


def test_sinks_may_be_written_to_from_several_threads(tmp_path: Path) -> None:
    sink = LabelPngSink(LocalFolder(tmp_path), info(21))
    maps = [np.full((20, 30), i, np.uint8) for i in range(21)]
    threads = [
        threading.Thread(target=written, args=(sink, frame(str(i)), Prediction({"head0": labels})))
        for i, labels in enumerate(maps)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(21):
        assert np.unique(np.asarray(Image.open(tmp_path / f"{i}.png"))).tolist() == [i]


def test_top_k_of_several_strips_and_of_more_classes_than_there_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 150, 2), dtype=np.float32)
    written(
        NpyProbabilitySink(LocalFolder(tmp_path), info(3), "float32", top_k=5),
        frame("a"),
        Prediction({}, {"head0": values}),
    )
    with np.load(tmp_path / "a.npz") as found:
        assert np.array_equal(found["probabilities"], np.sort(values, axis=0)[::-1])
        assert np.array_equal(found["classes"], np.argsort(-values, axis=0))


def test_overlays_are_drawn_over_what_the_model_sees(tmp_path: Path) -> None:
    labels = {"head0": np.zeros((3, 4), np.uint8)}
    pixels = np.full((3, 4, 3), 200, np.uint8)
    hha = replace(info(2), modalities=("hha",))
    written(
        OverlaySink(LocalFolder(tmp_path), hha, opacity=0), Frame("a.png", "a", {"hha": pixels}), Prediction(labels)
    )
    assert np.abs(np.asarray(Image.open(tmp_path / "a.jpg")).astype(int) - 200).max() < 3
    with pytest.raises(SettingsError, match="leave out --overlay"):
        OverlaySink(LocalFolder(tmp_path), replace(hha, modalities=("depth",)))


def test_an_overlay_that_no_jpeg_can_hold_fails_that_image(tmp_path: Path) -> None:
    pixels = np.zeros((65_501, 1, 3), np.uint8)
    labels = {"head0": np.zeros((65_501, 1), np.uint8)}
    with pytest.raises(ImageError, match="65500") as failed:
        written(OverlaySink(LocalFolder(tmp_path), info(2)), Frame("a.png", "a", {"color": pixels}), Prediction(labels))
    assert failed.value.stage == "write"
    assert not list(tmp_path.iterdir())


def test_a_name_too_long_or_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8)
    with mounted(tmp_path / "small", "size=64k") as folder:
        sink = LabelPngSink(LocalFolder(folder), info(256))
        for stem, code in (("x" * 252, errno.ENAMETOOLONG), ("a", errno.ENOSPC)):
            with pytest.raises(OSError, match=r".") as failed:
                written(sink, frame(stem), Prediction({"head0": noise[:8] if len(stem) > 1 else noise}))
            assert failed.value.errno == code
            assert not list(folder.iterdir())


def test_colours_are_those_that_the_label_map_is_shown_in(tmp_path: Path) -> None:
    for classes in (21, 300):
        values = np.arange(21, dtype=np.uint8 if classes == 21 else np.uint16).reshape(3, 7)
        values[2, 6] = 255
        prediction = Prediction({"head0": values})
        written(ColorPngSink(LocalFolder(tmp_path / "rgb"), info(classes)), frame("a"), prediction)
        shown = np.asarray(Image.open(tmp_path / "rgb/a.png"))
        assert shown.dtype == np.uint8
        assert shown.tolist() == [[[*voc_color(v)] for v in row] for row in values.tolist()]
    written(LabelPngSink(LocalFolder(tmp_path), info(21)), frame("a"), Prediction({"head0": values.astype(np.uint8)}))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png").convert("RGB")), shown)


def test_masks_are_of_one_class_each(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    prediction = Prediction({"head0": labels, "head1": labels % 2})
    written(MaskSink(LocalFolder(tmp_path / "one"), info(3), "class 2"), frame("x/a"), prediction)
    with Image.open(tmp_path / "one/x/a.png") as mask:
        assert mask.mode == "L"
        assert np.array_equal(np.asarray(mask), np.where(labels == 2, 255, 0))
    written(MaskSink(LocalFolder(tmp_path / "two"), info(3, 2), "class 2,class 1"), frame("x/a"), prediction)
    names = {
        p.relative_to(tmp_path / "two").as_posix(): np.asarray(Image.open(p)) for p in (tmp_path / "two").rglob("*.png")
    }
    assert names.keys() == {f"head0/class {i}/x/a.png" for i in (1, 2)} | {"head1/class 1/x/a.png"}
    assert np.array_equal(names["head1/class 1/x/a.png"] == 255, labels % 2 == 1)


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("road", "n/a", "..", " ", "Sky", "sky"), ["road", "class-1", "class-2", "class-3", "class-4", "class-5"]),
        (("é", "x" * 250, "a\nb", "c."), ["é", "class-1", "class-2", "class-3"]),
    ],
)
def test_folders_of_classes_can_be_made_everywhere(names: tuple[str, ...], folders: list[str]) -> None:
    space = LabelSpace(names, tuple(voc_color(i) for i in range(len(names))))
    assert [class_folder(space, label) for label in range(len(names))] == folders


def test_cut_outs_have_the_photographs_pixels_and_nothing_else(tmp_path: Path) -> None:
    one, labels = frame("a", 1500, 300), np.random.default_rng(1).integers(0, 4, (1500, 300), dtype=np.uint8)
    labels[0, 0] = 255
    written(CutoutSink(LocalFolder(tmp_path), info(4), "class 1,class 3"), one, Prediction({"head0": labels}))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA"
        found = np.asarray(image)
    inside = np.isin(labels, (1, 3))
    assert np.array_equal(found[..., :3], np.where(inside[..., None], one.inputs["color"], 0))
    assert np.array_equal(found[..., 3], np.where(inside, 255, 0))
    with pytest.raises(SettingsError, match="leave out --cutout"):
        CutoutSink(LocalFolder(tmp_path), replace(info(4), modalities=("depth",)), "class 1")


@pytest.mark.parametrize("kind", ["colours", "masks", "cutouts"])
def test_pictures_are_no_photographs(tmp_path: Path, kind: str) -> None:
    labels = {"head0": np.zeros((3, 4), np.uint8)}
    options = RunOptions("photos", tmp_path, mask=("class 1", tmp_path), cutout=("class 1", tmp_path))
    sink = KINDS[kind].sink(LocalFolder(tmp_path), info(3), options)
    (output,) = written(sink, frame("a"), Prediction(labels))
    with pytest.raises(ImageError, match="that fcnseg wrote"):
        pixels_of(output.location)
