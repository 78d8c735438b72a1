"""The axes of datasets of images, and encoded files."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.sources import open_source
from tests.io.hdf5_files import COLOR, DEPTH, FILES, GREY, RNG, loaded, references, vlen, write

STACKS: dict[str, tuple[Callable[[h5py.File], object], np.ndarray]] = {
    "NHWC": (lambda file: file.create_dataset("x", data=COLOR), COLOR),
    "NCHW": (lambda file: file.create_dataset("x", data=COLOR.transpose(0, 3, 1, 2)), COLOR),
    "NHW": (lambda file: file.create_dataset("x", data=COLOR[..., 0]), GREY),
    "NHW1": (lambda file: file.create_dataset("x", data=COLOR[..., :1]), GREY),
    "compressed, chunked across": (
        lambda file: file.create_dataset("x", data=COLOR, chunks=(3, 2, 5, 2), compression="gzip", shuffle=True),
        COLOR,
    ),
    "lzf, resizable": (
        lambda file: file.create_dataset("x", data=COLOR, maxshape=(None,) * 4, compression="lzf"),
        COLOR,
    ),
    "variable-length": (vlen, COLOR),
    "opaque": (lambda file: file.create_dataset("x", data=np.array(FILES, f"V{max(map(len, FILES))}")), COLOR),
    "strings": (lambda file: file.create_dataset("x", data=np.array(FILES)), COLOR),
}


@pytest.mark.parametrize("name", STACKS)
def test_datasets_of_many_images(tmp_path: Path, name: str) -> None:
    fill, pixels = STACKS[name]
    path = write(tmp_path / "data.h5", fill)
    source = open_source(f"{path}::/x")
    assert [found.key for found in references(source)] == [f"x/{i:06d}" for i in range(4)]
    assert [found.stem for found in source] == [f"x/{i:06d}" for i in range(4)]
    assert np.array_equal(loaded(source), pixels)
    assert loaded(source).dtype == np.uint8
    assert np.array_equal(loaded(open_source(path)), pixels)  # found without a name
    asked: list[int] = []
    reference = references(source)[2]
    source.load(reference, asked.append)
    assert len(asked) == 1
    assert asked[0] >= 5 * 7 * 3
    assert source.size(reference) == (5, 7)
    source.close()


def nyud(file: h5py.File) -> None:
    """NYUDv2's labelled set as h5py shows it: MATLAB's 480 x 640 x 3 x N, with the axes in reverse order."""
    file["images"] = COLOR.transpose(0, 3, 2, 1)
    file["depths"] = DEPTH.transpose(0, 2, 1)
    file["instances"] = COLOR[..., 0].transpose(0, 2, 1)
    file["labels"] = COLOR[..., 0].transpose(0, 2, 1).astype(np.uint16)
    file["#refs#/a"] = COLOR


@pytest.mark.parametrize("named", [True, False])
def test_matlab_files_have_their_axes_turned(tmp_path: Path, named: bool) -> None:
    path = write(tmp_path / "nyu.mat", nyud, matlab=True)
    source = open_source(f"{path}::/images" if named else path, ("color", "depth"), {"depth": f"{path}::/depths"})
    assert [found.key for found in references(source)] == [f"images/{i:06d}" for i in range(4)]
    assert np.array_equal(loaded(source), COLOR)
    assert np.array_equal(loaded(source, "depth"), DEPTH[..., None])
    assert loaded(source, "depth").dtype == np.float32
    asked: list[int] = []
    source.load(references(source)[0], asked.append)
    assert asked == [5 * 7 * (3 + 4)]


def test_matlab_is_known_by_its_attributes_too_and_a_layout_overrules_it(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["images"] = COLOR.transpose(0, 3, 2, 1)
        file["one"] = COLOR[0].transpose(2, 1, 0)
        file["images"].attrs["MATLAB_class"] = np.bytes_("uint8")

    path = write(tmp_path / "data.h5", fill)
    assert np.array_equal(loaded(open_source(f"{path}::images")), COLOR)
    assert np.array_equal(loaded(open_source(f"{path}::one")), COLOR[:1])
    assert np.array_equal(loaded(open_source(f"{path}::images", layout="NCHW")), COLOR.transpose(0, 2, 1, 3))


def test_axes_that_could_be_either_ask_for_the_layout(tmp_path: Path) -> None:
    both = RNG.integers(0, 256, (2, 3, 6, 3), dtype=np.uint8)
    path = write(tmp_path / "data.h5", lambda file: file.update({"both": both, "three": COLOR[:3, ..., 0]}))
    for name in ("both", "three"):
        with pytest.raises(SourceError, match=r"is ambiguous.*--layout"):
            open_source(f"{path}::{name}")
    assert np.array_equal(loaded(open_source(f"{path}::both", layout="NHWC")), both)
    assert np.array_equal(loaded(open_source(f"{path}::both", layout="NCHW")), both.transpose(0, 2, 3, 1))
    assert np.array_equal(loaded(open_source(f"{path}::three", layout="NHWC")), GREY[:3])
    one = open_source(f"{path}::three", layout="NCHW")
    assert [found.key for found in references(one)] == ["three"]
    assert np.array_equal(loaded(one)[0], COLOR[:3, ..., 0].transpose(1, 2, 0))
    path = write(tmp_path / "clear.h5", lambda file: file.update({"x": COLOR}))
    with pytest.raises(SourceError, match="is not NCHW"):
        open_source(f"{path}::x", layout="NCHW")
    with pytest.raises(SettingsError, match="use auto, NHWC, NCHW"):
        open_source(path, layout="HWC")


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 5)] * 4), st.sampled_from(["NHWC", "NCHW"]), st.sampled_from(["color", "depth"]))
def test_a_layout_that_is_given_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], layout: str, modality: str
) -> None:
    count, height, width, _ = shape
    channels = 3 if modality == "color" else 1
    pixels = RNG.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    stored = pixels if layout == "NHWC" else pixels.transpose(0, 3, 1, 2)
    path = write(tmp_path_factory.mktemp("layout") / "a.h5", lambda file: file.update({"x": stored}))
    found = loaded(open_source(f"{path}::x", (modality,), layout=layout), modality)
    assert np.array_equal(found, pixels)
    if channels in stored.shape[1:4:2] and stored.shape[1] != stored.shape[3]:
        assert np.array_equal(loaded(open_source(f"{path}::x", (modality,)), modality), pixels)
    else:
        with pytest.raises(SourceError, match="ambiguous"):
            open_source(f"{path}::x", (modality,))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DEPTH, "float32, and color images are uint8"),
        (COLOR.astype(np.uint16), "uint16, and color images are uint8"),
        (np.zeros((2, 2, 2, 2, 3), np.uint8), "rank is 5"),
        (np.zeros(5), "rank is 1"),
        (COLOR[..., :2], "no axis of its shape 4 x 5 x 7 x 2 has 3 or 1 channels"),
        (np.zeros(3, [("r", "u1")]), "neither numbers nor encoded files"),
        (np.zeros((2, 2), "V9"), "encoded files have rank 1"),
    ],
    ids=str,
)
def test_datasets_that_are_no_images_say_why(tmp_path: Path, data: np.ndarray, reason: str) -> None:
    path = write(tmp_path / "data.h5", lambda file: file.update({"x": data}))
    with pytest.raises(SourceError, match=reason):
        open_source(f"{path}::x")
