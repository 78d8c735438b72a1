from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.labels import LabelSpace, voc_color
from fcnseg.stream.sinks import LabelPngSink, NpyProbabilitySink, output_name
from fcnseg.types import EngineInfo, Prediction


def info(*classes: int) -> EngineInfo:
    heads = {
        f"head{i}": LabelSpace(tuple(map(str, range(k))), tuple(voc_color(j % 256) for j in range(k)), 65535)
        for i, k in enumerate(classes)
    }
    return EngineInfo("fake", "cpu", "fp32", "net", "abc", heads, ("color",), {"fcnseg": "1"})


def test_a_label_map_is_an_indexed_png_whose_values_are_classes(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    LabelPngSink(tmp_path, info(21)).write(Prediction("a/b.c.jpg", {"head0": labels}))
    with Image.open(tmp_path / "a/b.c.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert image.convert("RGB").getpixel((1, 0)) == voc_color(1)
        assert image.text == {"Software": "fcnseg 1", "fcnseg:model": "net", "fcnseg:weights": "abc"}
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["b.c.png"]


def test_more_than_256_classes_give_16_bits(tmp_path: Path) -> None:
    labels = np.array([[0, 299]], np.uint16)
    LabelPngSink(tmp_path, info(300)).write(Prediction("a.jpg", {"head0": labels}))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), labels)


def test_several_heads_get_a_folder_each(tmp_path: Path) -> None:
    maps = {"head0": np.zeros((1, 1), np.uint8), "head1": np.ones((1, 1), np.uint8)}
    LabelPngSink(tmp_path, info(33, 3)).write(Prediction("x/a.jpg", maps))
    assert np.asarray(Image.open(tmp_path / "head1/x/a.png")).item() == 1
    assert (tmp_path / "head0/x/a.png").is_file()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_probabilities_keep_their_axes_and_type(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).random((5, 2, 3), dtype=np.float32)
    NpyProbabilitySink(tmp_path, info(5), dtype).write(Prediction("a.jpg", {}, {"head0": values}))
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == dtype
    assert np.array_equal(found, values.astype(dtype))


def test_output_names_mirror_the_source() -> None:
    assert output_name("a/b.jpeg", ".png") == "a/b.png"
    assert output_name("-x.tar.jpg", ".npy", "semantic") == "semantic/-x.tar.npy"
