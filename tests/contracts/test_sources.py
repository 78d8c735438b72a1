"""The contract of `Source`, held by every kind of input."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.image_source import ImageSource
from fcnseg.io.remote_sources import open_remote_images
from fcnseg.io.sources import open_source
from fcnseg.testing import check_source
from fcnseg.types import Pixels, Reference, Source
from tests.fakes import MemorySource

Images = dict[str, Pixels | None]
"""Images by their names in the source; None: a damaged one."""


def png(pixels: Pixels | None) -> bytes:
    if pixels is None:
        return b"\x89PNG\r\n\x1a\n, and nothing more"
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def folder(place: Path, images: Images) -> ImageSource:
    for name, pixels in images.items():
        file = place / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))
    return open_source(place / "photos")


def single_file(place: Path, images: Images) -> ImageSource:
    name, pixels = list(images.items())[-1]
    file = place / Path(name).name
    file.write_bytes(png(pixels))
    return open_source(file)


def paths(place: Path, images: Images) -> str:
    folder(place, images)
    return "".join(f"photos/{name}\n" for name in images)


def list_file(place: Path, images: Images) -> ImageSource:
    (place / "list.txt").write_text(paths(place, images))
    return open_source(place / "list.txt")


def list_on_stdin(place: Path, images: Images) -> ImageSource:
    lines = paths(place, images).replace("photos/", f"{place}/photos/")
    return open_source("-", stdin=io.BytesIO(lines.encode()))


def zip_archive(place: Path, images: Images) -> ImageSource:
    with zipfile.ZipFile(place / "photos.zip", "w") as archive:
        for name, pixels in images.items():
            archive.writestr(name, png(pixels))
    return open_source(place / "photos.zip")


def tar_archive(place: Path, images: Images, suffix: str = ".tar", mode: str = "w") -> ImageSource:
    with tarfile.open(place / f"photos{suffix}", mode) as archive:  # type: ignore[call-overload]
        for name, pixels in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(png(pixels))
            archive.addfile(member, io.BytesIO(png(pixels)))
    return open_source(place / f"photos{suffix}")


def compressed_tar_archive(place: Path, images: Images) -> ImageSource:
    return tar_archive(place, images, ".tar.gz", "w:gz")


def hdf5_dataset(place: Path, images: Images) -> ImageSource:
    rows = np.stack([np.zeros((20, 30, 3), np.uint8) if pixels is None else pixels for pixels in images.values()])
    with h5py.File(place / "data.h5", "w") as file:
        dataset = file.create_dataset("images", data=rows, chunks=(1, 20, 30, 3), compression="gzip")
        for row, pixels in enumerate(images.values()):
            if pixels is None:
                dataset.id.write_direct_chunk((row, 0, 0, 0), b"this is no deflated chunk")
    return open_source(f"{place}/data.h5::/images")


def hdf5_group(place: Path, images: Images) -> ImageSource:
    with h5py.File(place / "data.h5", "w") as file:
        for name, pixels in images.items():
            if pixels is None:
                dataset = file.create_dataset(f"photos/{name}", (20, 30, 3), "u1", chunks=(20, 30, 3), compression=1)
                dataset.id.write_direct_chunk((0, 0, 0), b"this is no deflated chunk")
            else:
                file[f"photos/{name}"] = pixels
    return open_source(f"{place}/data.h5::/photos")


def opened_url(place: Path, name: str) -> ImageSource:
    """A source of object storage, here a folder: what `open_source` makes of URLs of other schemes."""
    url = f"{place.as_uri()}/{name}"
    return ImageSource(url, open_remote_images(url, {}, ()))


def bucket(place: Path, images: Images) -> ImageSource:
    folder(place, images)
    return opened_url(place, "photos")


def bucket_object(place: Path, images: Images) -> ImageSource:
    single_file(place, images).close()
    return opened_url(place, Path(list(images)[-1]).name)


def bucket_list(place: Path, images: Images) -> ImageSource:
    (place / "list.txt").write_text(paths(place, images))
    return opened_url(place, "list.txt")


def url_list(place: Path, images: Images) -> ImageSource:
    lines = paths(place, images).replace("photos/", f"{place.as_uri()}/photos/")
    (place / "list.txt").write_text(lines)
    return open_source(place / "list.txt")


def bucket_zip(place: Path, images: Images) -> ImageSource:
    zip_archive(place, images).close()
    return opened_url(place, "photos.zip")


def bucket_tar(place: Path, images: Images) -> ImageSource:
    tar_archive(place, images).close()
    return opened_url(place, "photos.tar")


def bucket_tars(place: Path, images: Images) -> ImageSource:
    for number, (name, pixels) in enumerate(images.items()):
        tar_archive(place, {name: pixels}, f"-{number}.tar").close()
    return opened_url(place, "photos-*.tar")


def bucket_compressed_tar(place: Path, images: Images) -> ImageSource:
    compressed_tar_archive(place, images).close()
    return opened_url(place, "photos.tar.gz")


KINDS: dict[str, Callable[[Path, Images], Source]] = {
    function.__name__: function
    for function in (
        folder,
        single_file,
        list_file,
        list_on_stdin,
        zip_archive,
        tar_archive,
        compressed_tar_archive,
        hdf5_dataset,
        hdf5_group,
        bucket,
        bucket_object,
        bucket_list,
        url_list,
        bucket_zip,
        bucket_tar,
        bucket_tars,
        bucket_compressed_tar,
    )
}
Make = Callable[[Images], Source]


def images_of(seed: int) -> Images:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) for name in ("a.png", "b/c.png", "b/d.e.png")}


def references(source: Source) -> list[Reference]:
    listed = [listed for listed in source if isinstance(listed, Reference)]
    return sorted(listed, key=lambda reference: reference.key)  # storages list in an order of their own


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    opened: list[Source] = []

    def make(images: Images) -> Source:
        opened.append(KINDS[request.param](tmp_path, images))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def test_it_keeps_to_the_contract(make: Make) -> None:
    check_source(lambda: make(images_of(0)))


def test_pixels_are_those_of_the_image(make: Make) -> None:
    images = images_of(0)
    source = make(images)
    loaded = [source.load(reference) for reference in references(source)]
    expected = list(images.values())[-len(loaded) :]  # of a single file, the last
    for reference, frame, pixels in zip(references(source), loaded, expected, strict=True):
        assert (frame.key, frame.stem) == (reference.key, reference.stem)
        assert frame.inputs["color"].dtype == np.uint8
        assert frame.inputs["color"].flags.c_contiguous
        assert np.array_equal(frame.inputs["color"], pixels)


def test_fingerprints_change_with_the_content(make: Make) -> None:
    source = make(images_of(0))
    listed = references(source)
    before = [source.fingerprint(reference) for reference in listed]
    assert all(before)
    assert [source.fingerprint(reference) for reference in listed] == before
    source.close()
    other = make({name: np.zeros_like(pixels) for name, pixels in images_of(0).items()})
    after = [other.fingerprint(reference) for reference in references(other)]
    assert len(after) == len(before)
    assert all(now != then for now, then in zip(after, before, strict=True))


def test_a_damaged_image_is_an_image_error(make: Make) -> None:
    source = make({**images_of(0), "b/z.png": None})
    *whole, damaged = references(source)
    with pytest.raises(ImageError) as caught:
        source.load(damaged)
    assert caught.value.stage == "load"
    assert "\n" not in str(caught.value)
    for reference in whole:
        source.load(reference)


@pytest.mark.parametrize("kind", ["bucket", "bucket_object", "bucket_list", "url_list"])
def test_a_missing_object_is_an_image_error(tmp_path: Path, kind: str) -> None:
    with closing(KINDS[kind](tmp_path, images_of(0))) as source:
        *_, last = references(source)
        next(tmp_path.rglob(Path(last.key).name)).unlink()
        source.fingerprint(last)
        with pytest.raises(ImageError, match="does not exist"):
            source.load(last)


@pytest.mark.parametrize("kind", ["folder", "single_file", "list_file", "list_on_stdin"])
def test_a_missing_image_is_an_image_error(tmp_path: Path, kind: str) -> None:
    with closing(KINDS[kind](tmp_path, images_of(0))) as source:
        *_, last = references(source)
        Path(last.location).unlink()
        source.fingerprint(last)
        with pytest.raises(ImageError):
            source.load(last)


def test_the_fake_is_a_source() -> None:
    source: Source = MemorySource(["a.jpg", "b.jpg"], {"b.jpg": ImageError("broken")})
    first, second = references(source)
    assert list(source) == [first, second]
    assert source.load(first).key == "a.jpg"
    with pytest.raises(ImageError):
        source.load(second)
