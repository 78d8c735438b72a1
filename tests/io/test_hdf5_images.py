import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io.hdf5_images import Hdf5Images
from fcnseg.io.sources import ImageSource, open_source
from fcnseg.types import Failure, Reference

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
DEPTH = RNG.random((4, 5, 7), dtype=np.float32)
GREY = np.repeat(COLOR[..., :1], 3, axis=3)


def encoded(pixels: np.ndarray, name: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name)
    return buffer.getvalue()


FILES = [encoded(pixels) for pixels in COLOR]


def write(path: Path, fill: Callable[[h5py.File], object], *, matlab: bool = False) -> Path:
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        fill(file)
    if matlab:
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    return path


def references(source: ImageSource) -> list[Reference]:
    listed = list(source)
    assert list(source) == listed
    assert all(isinstance(found, Reference) for found in listed), listed
    return listed  # type: ignore[return-value]


def loaded(source: ImageSource, modality: str = "color") -> np.ndarray:
    return np.stack([source.load(reference).inputs[modality] for reference in references(source)])


def vlen(file: h5py.File) -> None:
    data = file.create_dataset("x", (4,), h5py.vlen_dtype(np.uint8))
    for i, content in enumerate(FILES):
        data[i] = np.frombuffer(content, np.uint8)


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
    assert asked == [5 * 7 * 3]
    assert source.size(reference) == (5, 7)
    source.close()


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


def test_files_that_are_damaged_or_something_else(tmp_path: Path) -> None:
    whole = write(
        tmp_path / "whole.h5", lambda file: file.update({"x": RNG.integers(0, 256, (50, 30, 40, 3), np.uint8)})
    )
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole.read_bytes()[:-30_000])
    with pytest.raises(SourceError, match="truncated file") as caught:
        open_source(f"{cut}::x")
    assert "\n" not in str(caught.value)
    for content, reason in ((b"", "whole HDF5"), (b"no" * 999, "whole HDF5"), (b"MATLAB 5.0 MAT-file", "-v7.3")):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(SourceError, match=reason):
            open_source(tmp_path / "a.mat")
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "absent.h5")
    with pytest.raises(SourceError, match="does not exist"):
        open_source(f"{tmp_path}/absent::x")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(SourceError, match="is no file"):
        open_source(tmp_path / "pipe.h5")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flipped_bytes_end_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("g/x", data=COLOR, chunks=(2, 5, 7, 3), compression="gzip", fletcher32=True)
        file["g/y"] = COLOR[0]
        file["g/z"] = np.frombuffer(FILES[0], np.uint8)

    path = write(tmp_path_factory.mktemp("damaged") / "a.h5", fill)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    reasons = []
    try:
        source = open_source(f"{path}::{data.draw(st.sampled_from(['g', 'g/x', '']))}", max_pixels=10_000)
        for found in source:
            if isinstance(found, Failure):
                reasons.append(found.reason)
                continue
            try:
                source.load(found)
            except ImageError as error:
                reasons.append(str(error))
    except SourceError as error:
        reasons.append(str(error))
    assert not any("\n" in reason for reason in reasons)


def test_a_chunk_that_is_damaged_fails_its_images_only(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data.h5", lambda file: file.create_dataset("x", data=COLOR, chunks=(1, 5, 7, 3), fletcher32=True)
    )
    with h5py.File(path) as file:
        offset = file["x"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    source = open_source(path)
    outcomes = []
    for found in references(source):
        try:
            outcomes.append(np.array_equal(source.load(found).inputs["color"], COLOR[len(outcomes)]))
        except ImageError as error:
            outcomes.append("cannot be read" in str(error) and "\n" not in str(error) and None)
    assert outcomes == [True, True, None, True]


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


def test_the_stamp_follows_the_file_and_folders_may_be_called_like_datasets(tmp_path: Path) -> None:
    path = write(tmp_path / "data.h5", lambda file: file.update({"x": COLOR}))
    before = references(open_source(path))[0].fingerprint
    os.utime(path, ns=(1, 1))
    assert references(open_source(path))[0].fingerprint != before
    folder = tmp_path / "a::b.h5"
    folder.mkdir()
    Image.fromarray(COLOR[0]).save(folder / "a.png")
    assert [found.key for found in open_source(folder)] == ["a.png"]


HEAPS = {
    "as it is": {},
    "in chunks": {"chunks": (3,)},
    "compressed": {"chunks": (2,), "compression": "gzip", "shuffle": True},
}

READING = """
import sys
from fcnseg.errors import ImageError, SourceError
from fcnseg.io.sources import open_source
for i, name in enumerate(sys.argv[1:]):
    try:
        source = open_source(name)
        for reference in source:
            try:
                print(i, source.load(reference).size)
            except ImageError as error:
                print(i, error)
    except SourceError as error:
        print(i, error)
"""


@pytest.mark.parametrize("zeros", [False, True])
def test_a_damaged_heap_is_an_error_and_no_endless_loop(tmp_path: Path, zeros: bool) -> None:
    """The HDF5 library walks such heaps for ever, so they are read in another process."""
    names = []
    for number, options in enumerate(HEAPS.values()):

        def fill(file: h5py.File, options: dict[str, object] = options) -> None:
            data = file.create_dataset("x", (4,), h5py.vlen_dtype(np.uint8), **options)
            for i, content in enumerate(FILES):
                data[i] = np.frombuffer(content, np.uint8)

        path = write(tmp_path / f"{number}.h5", fill, matlab=bool(number))
        content = bytearray(path.read_bytes())
        heap = content.index(b"GCOL")
        if zeros:
            content[heap + 16 : heap + 4096] = bytes(4080)
        path.write_bytes(content)
        names.append(f"{path}::x")
    command = [sys.executable, "-c", READING, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    if zeros:
        assert len(lines) == len(HEAPS) * len(FILES)
        assert all("so is the heap it lies in" in line for line in lines)
    else:
        assert lines == [f"{i} (5, 7)" for i in range(len(HEAPS)) for _ in FILES]


def test_a_chunk_of_no_bytes_fails_its_images_only(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("x", data=COLOR, chunks=(1, 5, 7, 2), compression="gzip", fletcher32=True)

    path = write(tmp_path / "a.h5", fill)
    with h5py.File(path) as file:
        size = next(i.size for n in range(8) if (i := file["x"].id.get_chunk_info(n)).chunk_offset == (2, 0, 0, 2))
    content = path.read_bytes()
    entry = struct.pack("<2I5Q", size, 0, 2, 0, 0, 2, 0)  # the chunk's place in the tree of them
    assert content.count(entry) == 1
    path.write_bytes(content.replace(entry, bytes(4) + entry[4:]))
    command = [sys.executable, "-c", READING, f"{path}::x"]  # the library crashes
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "0 (5, 7)",
        "0 (5, 7)",
        "0 cannot be read",
        "0 (5, 7)",
    ]


def test_names_of_any_bytes_are_listed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        for name, pixels in ((b"g/caf\xe9", COLOR[0]), (b"g/caf\xe8/x", COLOR[1]), ("g/ü".encode(), COLOR[2])):
            file[name] = pixels

    path = write(tmp_path / "a.h5", fill)
    with pytest.raises(SourceError, match=r"it holds /g/caf.*, /g; name one"):
        open_source(path)
    source = open_source(f"{path}::g")
    found = {os.fsencode(reference.key): source.load(reference).inputs["color"] for reference in references(source)}
    assert found.keys() == {b"g/caf\xe9", b"g/caf\xe8/x", "g/ü".encode()}
    assert np.array_equal(found[b"g/caf\xe9"], COLOR[0])
    assert np.array_equal(found[b"g/caf\xe8/x"], COLOR[1])
    (below,) = references(open_source(os.fsdecode(os.fsencode(path) + b"::/g/caf\xe8")))
    assert os.fsencode(below.key) == b"g/caf\xe8/x"
