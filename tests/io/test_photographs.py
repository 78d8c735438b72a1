"""Photographs of label maps, in everything that a run takes images from."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.photographs import Photographs
from fcnseg.io.sources import open_source
from fcnseg.types import Reference
from tests.conftest import photograph


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """a/x, b/x and b/y, 5 x 4 px."""
    for number, name in enumerate(("a/x.png", "b/x.png", "b/y.png")):
        photograph(tmp_path / "photos" / name, 5, 4, number)
    return tmp_path / "photos"


def in_a_list(photos: Path, file: Path) -> Path:
    file.write_text("\n".join(("# a comment", "", *map(str, photos.rglob("*.png")))))
    return file.rename(file.with_suffix(".txt"))


def in_a_zip(photos: Path, file: Path) -> Path:
    with zipfile.ZipFile(file.with_suffix(".zip"), "w") as archive:
        for path in photos.rglob("*.png"):
            archive.write(path, path.relative_to(photos))
    return file.with_suffix(".zip")


def in_a_tar(photos: Path, file: Path) -> Path:
    with tarfile.open(file.with_suffix(".tar.gz"), "w:gz") as archive:
        archive.add(photos, ".")
    return file.with_suffix(".tar.gz")


def in_hdf5(photos: Path, file: Path) -> str:
    with h5py.File(file.with_suffix(".h5"), "w") as h5:
        for path in photos.rglob("*.png"):
            h5[str(path.relative_to(photos).with_suffix(""))] = np.asarray(Image.open(path))
    return f"{file.with_suffix('.h5')}::/"


@pytest.mark.parametrize("form", [lambda photos, file: photos, in_a_list, in_a_zip, in_a_tar, in_hdf5])
def test_every_source_shows_the_same_photographs(
    photos: Path, tmp_path: Path, form: Callable[[Path, Path], Path | str]
) -> None:
    source = form(photos, tmp_path / "source")
    for opened in (Photographs.of(source, {}), Photographs.of(None, {"settings": {"source": str(source)}})):
        with opened as photographs:
            for name, file in (("a/x", "a/x.png"), ("b/x", "b/x.png"), ("y", "b/y.png"), ("labels/y", "b/y.png")):
                np.testing.assert_array_equal(photographs.find(name, 4, 5), np.asarray(Image.open(photos / file)))
            assert photographs.find("a/x", 5, 4) is None, "of another size"
            assert photographs.find("x", 4, 5) is None, "of two images"
            assert photographs.find("z", 4, 5) is None


def test_photographs_of_one_dataset_are_found_by_number(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["images"] = pixels
    record = {"settings": {"source": f"{tmp_path}/a.h5::/images", "layout": "NHWC"}}
    with Photographs.of(None, record) as photographs:
        for name in ("images/000002", "labels/000002"):
            np.testing.assert_array_equal(photographs.find(name, 4, 5), pixels[2])


def test_a_single_photograph(photos: Path) -> None:
    with Photographs.of(photos / "a/x.png", {}) as photographs:
        assert photographs.find("x", 4, 5) is not None


def test_pixels_are_those_of_a_run(tmp_path: Path) -> None:
    turned, deep, cmyk = (tmp_path / name for name in ("turned.jpg", "deep.png", "cmyk.jpg"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photograph(tmp_path / "as-is.png", 4, 3)).save(turned, exif=exif)
    Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000).save(deep)
    Image.new("CMYK", (4, 3), (10, 200, 30, 40)).save(cmyk)
    source = open_source(tmp_path)
    references = [found for found in source if isinstance(found, Reference)]
    frames = {reference.stem: source.load(reference).inputs["color"] for reference in references}
    assert len(frames) == 4
    with Photographs.of(tmp_path, {}) as photographs:
        for name, pixels in frames.items():
            np.testing.assert_array_equal(photographs.find(name, *pixels.shape[:2]), pixels)
    assert frames["turned"].shape == (4, 3, 3)


def test_photographs_that_cannot_be_shown_are_left_out(photos: Path, tmp_path: Path) -> None:
    content = (photos / "a/x.png").read_bytes()
    (photos / "a/x.png").write_bytes(content[:-30])
    (photos / "b/x.png").write_text("no image")
    with Photographs.of(photos, {}) as photographs:
        assert photographs.find("a/x", 4, 5) is None
        assert photographs.find("b/x", 4, 5) is None
        (photos / "b/y.png").unlink()
        assert photographs.find("b/y", 4, 5) is None
    for settings in ({}, {"source": "-"}, {"source": f"{tmp_path}/gone"}, {"source": f"{photos}", "glob": "*.bmp"}):
        with Photographs.of(None, {"settings": settings}) as photographs:
            assert photographs.find("a/x", 4, 5) is None


def test_photographs_that_were_named_must_be_there(tmp_path: Path) -> None:
    for name in ("nowhere", "-", "gone.h5::/images"):
        with pytest.raises(SettingsError, match=name):
            Photographs.of(Path(name), {})
    (tmp_path / "a.zip").write_text("no archive")
    with pytest.raises(SourceError, match=r"a\.zip is not a zip archive"):
        Photographs.of(tmp_path / "a.zip", {})
    with Photographs.of(tmp_path, {}) as photographs:
        assert photographs.find("a", 4, 5) is None


def test_no_photograph_of_another_image_is_shown(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "b/y.png"):
        photograph(tmp_path / name, 4, 3)
    with Photographs.of(tmp_path, {}) as photographs:
        found = [photographs.find(key, 3, 4) is not None for key in ("a/x", "y", "x", "z")]
    assert found == [True, True, False, False]


def test_photographs_of_a_list_are_found_as_a_run_names_them(tmp_path: Path) -> None:
    for name in ("photos/a/x.png", "photos/b/x.png"):
        photograph(tmp_path / name, 4, 3)
    (tmp_path / "list.txt").write_text(f"photos/a/x.png\n# a comment\n\n{tmp_path}/photos/b/x.png\nphotos/a/gone.png\n")
    with Photographs.of(tmp_path / "list.txt", {}) as photographs:
        found = [photographs.find(key, 3, 4) is not None for key in ("a/x", "b/x", "a/gone", "x")]
    assert found == [True, True, False, False]
