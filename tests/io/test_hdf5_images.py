"""Images in HDF5 files."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.hdf5_images import Hdf5Images
from fcnseg.io.sources import open_source
from fcnseg.types import Reference
from tests.io.hdf5_files import COLOR, DEPTH, FILES, GREY, references, vlen, write


def test_groups_of_single_images_of_many_sizes_and_kinds(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        group = file.create_group("set/train")
        group["hwc"] = COLOR[0, :4]
        group["chw"] = COLOR[1, :, :6].transpose(2, 0, 1)
        group["hw"] = COLOR[2, :, :, 0]
        group["deep/file.v1.png"] = np.frombuffer(FILES[3], np.uint8)
        group["opaque.jpg"] = np.void(FILES[0])
        group["variable"] = h5py.Empty("f4")
        group["again"] = h5py.SoftLink("/set/train/hwc")
        group["deep/round"] = group
        group["gone"] = h5py.SoftLink("/nowhere")
        group["other"] = h5py.ExternalLink("/etc/passwd", "/")
        group["float"] = DEPTH[0]
        group["names"] = ["a", "b"]
        group["rank4"] = COLOR
        group[".."] = COLOR[0]

    source = open_source(f"{write(tmp_path / 'data.h5', fill)}::set/train")
    pixels, reasons = {}, {}
    for found in source:
        try:
            assert isinstance(found, Reference), found.reason
            pixels[found.stem] = source.load(found).inputs["color"]
            assert "png" not in found.stem
        except (AssertionError, ImageError) as error:
            reasons[found.key] = str(error).split("\n")[0]
    top = "set/train/"
    expected = {
        "hwc": COLOR[0, :4],
        "chw": COLOR[1, :, :6],
        "hw": GREY[2],
        "deep/file.v1": COLOR[3],
        "opaque": COLOR[0],
        "again": COLOR[0, :4],
    }
    assert set(pixels) == {top + name for name in expected}
    assert all(np.array_equal(pixels[top + name], value) for name, value in expected.items())
    parts = {
        "variable": "empty",
        "gone": "object",
        "other": "a link to another file",
        "float": "float32, and color images are uint8",
        "names": "encoded files have rank 1",
        "rank4": "rank is 4",
        "..": "leads outside",
    }
    assert reasons.keys() == {top + name for name in parts}
    assert all(part in reasons[top + name] for name, part in parts.items()), reasons


def test_what_a_file_holds_is_listed_when_no_name_or_a_wrong_one_is_given(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data.h5",
        lambda file: file.update({"a/x": COLOR, "y": COLOR, "z": DEPTH, "grey": COLOR[..., 0], "names": [b"a", b"b"]}),
    )
    with pytest.raises(SourceError, match=r"which images .* it holds /a/x, /y; name one as FILE::NAME"):
        open_source(path)
    with pytest.raises(SourceError, match=r"no dataset /absent .* it holds /a/x, /y"):
        open_source(f"{path}::/absent")
    assert open_source(path, ("depth",)).name == f"{path}::/z"
    groups = write(tmp_path / "groups.h5", lambda file: file.update({"g/1": COLOR[0], "g/2": COLOR[1, :3]}))
    assert [found.key for found in references(open_source(groups))] == ["g/1", "g/2"]
    root = write(tmp_path / "root.h5", lambda file: file.update({"1": COLOR[0], "2": COLOR[1, :3], "m": [1.0]}))
    assert [found.key for found in open_source(root)] == ["1", "2", "m"]
    assert [found.key for found in open_source(f"{root}::/")] == ["1", "2", "m"]
    many = write(tmp_path / "many.h5", lambda file: file.update({f"s{i}": COLOR for i in range(20)}))
    with pytest.raises(SourceError, match="/s14, /s15 and 12 more; name"):
        open_source(many)
    nothing = write(tmp_path / "nothing.h5", lambda file: file.update({"z": DEPTH, "names": [b"a", b"b"]}))
    with pytest.raises(SourceError, match="it holds no color images"):
        open_source(nothing)


def test_images_beyond_the_limit_are_refused_before_they_are_read(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("x", (2, 60_000, 60_000, 3), np.uint8, chunks=(1, 100, 100, 3))  # nothing is stored
        file.create_dataset("file", (10**10,), np.uint8, chunks=(1000,))
        file.create_dataset("none", (3, 0, 5, 3), np.uint8)

    path = write(tmp_path / "data.h5", fill)
    for name, reason in (("x", "60000 x 60000 pixels"), ("file", "10000000000 bytes"), ("none", "no pixels")):
        source = open_source(f"{path}::{name}")
        with pytest.raises(ImageError, match=reason):
            source.load(references(source)[0])


def test_chunks_of_many_images_are_unpacked_once(tmp_path: Path) -> None:
    """The cache holds the chunks of the images at hand; the library's own, 1 MiB, would not."""
    pixels = np.zeros((64, 128, 128, 3), np.uint8)
    path = write(
        tmp_path / "data.h5",
        lambda file: file.create_dataset("x", data=pixels, chunks=(32, 64, 128, 3), compression="gzip"),
    )
    images = Hdf5Images(f"{path}::x")
    slots, nbytes, _ = images._root.id.get_access_plist().get_chunk_cache()
    assert nbytes == 2 * 32 * 128 * 128 * 3
    assert slots > 4
    images.close()


def test_images_are_read_from_many_threads(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        vlen(file)
        file["y"] = COLOR

    path = write(tmp_path / "data.h5", fill)
    for name in ("x", "y"):
        source = open_source(f"{path}::{name}")
        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                frames = pool.map(source.load, references(source))
                assert all(np.array_equal(f.inputs["color"], COLOR[i]) for i, f in enumerate(frames))


def test_companions_match_by_number_or_by_name(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    for i in range(4):
        Image.fromarray(COLOR[i]).save(tmp_path / f"rgb/im{i}.png")
    path = write(
        tmp_path / "d.h5",
        lambda file: file.update(
            {"depths": DEPTH[:3], "x": COLOR, **{f"by/im{i}": DEPTH[i] for i in range(3)}, "by/im3": DEPTH[3, :2]}
        ),
    )

    def outcomes(main: object, depth: object) -> list[str]:
        source = open_source(main, ("color", "depth"), {"depth": depth})  # type: ignore[arg-type, dict-item]
        found = []
        for i, reference in enumerate(references(source)):
            try:
                frame = source.load(reference)
                assert np.array_equal(frame.inputs["depth"][..., 0], DEPTH[i])
                found.append("ok")
            except ImageError as error:
                found.append(str(error))
        return found

    by_number = outcomes(f"{path}::x", f"{path}::depths")
    assert by_number[:3] == ["ok"] * 3
    assert "no depth image number 3" in by_number[3]
    by_name = outcomes(tmp_path / "rgb", f"{path}::by")
    assert by_name[:3] == ["ok"] * 3
    assert "color is 7 x 5, depth is 7 x 2" in by_name[3]
    assert all(
        "no number to find its depth image by" in reason for reason in outcomes(tmp_path / "rgb", f"{path}::depths")
    )
    folder = tmp_path / "depth" / "x"
    folder.mkdir(parents=True)
    for i in range(4):
        Image.fromarray(DEPTH[i]).save(folder / f"{i:06d}.tiff")
    assert outcomes(f"{path}::x", tmp_path / "depth") == ["ok"] * 4
    names = write(tmp_path / "n.h5", lambda file: file.update({"a": DEPTH[0]}))
    assert all("no depth image named im" in reason for reason in outcomes(tmp_path / "rgb", f"{names}::/"))


def test_companions_are_found_by_names_of_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    name = os.fsdecode(b"caf\xe9")
    Image.fromarray(COLOR[0]).save(tmp_path / "rgb/x.png")
    (tmp_path / "rgb/x.png").rename(tmp_path / f"rgb/{name}.png")
    path = write(tmp_path / "d.h5", lambda file: file.update({"by/other": DEPTH[1]}))
    source = open_source(tmp_path / "rgb", ("color", "depth"), {"depth": f"{path}::by"})
    (reference,) = references(source)
    assert source.fingerprint(reference).endswith("missing")
    source.close()
    with h5py.File(path, "a") as file:
        file["by"][os.fsencode(name)] = DEPTH[0]
    source = open_source(tmp_path / "rgb", ("color", "depth"), {"depth": f"{path}::by"})
    assert not source.fingerprint(reference).endswith("missing")
    assert np.array_equal(source.load(reference).inputs["depth"][..., 0], DEPTH[0])


def test_the_fingerprint_follows_the_file_and_folders_may_be_called_like_datasets(tmp_path: Path) -> None:
    path = write(tmp_path / "data.h5", lambda file: file.update({"x": COLOR}))
    before = references(open_source(path))[0].fingerprint
    os.utime(path, ns=(1, 1))
    assert references(open_source(path))[0].fingerprint != before
    folder = tmp_path / "a::b.h5"
    folder.mkdir()
    Image.fromarray(COLOR[0]).save(folder / "a.png")
    assert [found.key for found in open_source(folder)] == ["a.png"]
