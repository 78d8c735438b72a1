"""Random mutants of small inputs of every kind: images, failures with their reasons, or one error, soon."""

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.io.archive_files import IMAGES, png, write_tar, write_zip
from tests.io.hdf5_files import COLOR, encoded, vlen, write
from tests.io.hostile import LIST_AND_LOAD, READ_MAPS, ends_of

MEMBERS = {f"d/{key}.png": png(pixels) for key, pixels in IMAGES.items()}
LABELS = np.arange(30, dtype=np.uint8).reshape(5, 6)


def progressive(path: Path) -> None:
    Image.fromarray(COLOR[0]).resize((40, 30)).save(path, "JPEG", progressive=True)


def tiled(path: Path) -> None:
    Image.fromarray(COLOR[0]).resize((40, 30)).save(path, "TIFF", compression="tiff_lzw")


def volume(file: h5py.File) -> None:
    file.create_dataset("x", data=COLOR, chunks=(1, 5, 7, 3), compression="gzip", shuffle=True, fletcher32=True)


def links(file: h5py.File) -> None:
    file["g/a"] = COLOR[0]
    file["g/b"] = h5py.SoftLink("/g/a")
    file["g/c"] = h5py.SoftLink("/other/a")
    file["other/a"] = COLOR[1]
    file["g/self"] = h5py.SoftLink("/g")


def write_archive(path: Path, values: np.ndarray) -> None:
    np.savez_compressed(path, classes=values[None], probabilities=np.zeros((1, 5, 6), np.float32))


def save_with(path: Path, **options: object) -> None:
    savemat(path, {"x": LABELS, "y": {"z": [1, 2]}}, **options)  # type: ignore[arg-type]


IMAGES_OF: dict[str, Callable[[Path], object]] = {
    "a.zip": lambda path: write_zip(path, MEMBERS),
    "lzma.zip": lambda path: write_zip(path, MEMBERS, 14),
    "bzip2.zip": lambda path: write_zip(path, MEMBERS, 12),
    "a.tar": lambda path: write_tar(path, MEMBERS),
    "a.tar.gz": lambda path: write_tar(path, MEMBERS, "w:gz"),
    "a.tar.bz2": lambda path: write_tar(path, MEMBERS, "w:bz2"),
    "a.tar.xz": lambda path: write_tar(path, MEMBERS, "w:xz"),
    "volume.h5": lambda path: write(path, volume),
    "files.h5": lambda path: write(path, vlen),
    "links.h5": lambda path: write(path, links),
    "a.png": lambda path: path.write_bytes(encoded(COLOR[0])),
    "a.tif": lambda path: path.write_bytes(encoded(COLOR[0], "TIFF")),
    "lzw.tif": tiled,
    "a.gif": lambda path: path.write_bytes(encoded(COLOR[0], "GIF")),
    "a.webp": lambda path: path.write_bytes(encoded(COLOR[0], "WEBP")),
    "a.jpg": progressive,
    "a.bmp": lambda path: path.write_bytes(encoded(COLOR[0], "BMP")),
    "a.ppm": lambda path: path.write_bytes(encoded(COLOR[0], "PPM")),
}

MAPS_OF: dict[str, Callable[[Path], object]] = {
    "map.png": lambda path: Image.fromarray(LABELS).save(path),
    "map.tif": lambda path: Image.fromarray(LABELS).save(path),
    "map.npy": lambda path: np.save(path, LABELS),
    "map.npz": lambda path: write_archive(path, LABELS),
    "map.mat": lambda path: save_with(path, do_compression=True),
    "plain.mat": lambda path: save_with(path),
    "map.h5": lambda path: write(path, lambda file: file.update({"a": LABELS, "g/b": COLOR[..., 0]})),
}


def mutants(folder: Path, content: bytes, suffix: str, count: int, rng: np.random.Generator) -> list[Path]:
    """Copies with bits turned, bytes and numbers replaced, parts removed, doubled or put elsewhere."""
    paths = []
    for number in range(count):
        mutant = bytearray(content)
        for _ in range(1 + int(rng.integers(4))):
            at = (
                int(rng.integers(max(1, len(mutant))))
                if rng.random() < 0.6
                else int(rng.integers(min(200, len(mutant))))
            )
            length = int(rng.integers(1, 40))
            match int(rng.integers(6)):
                case 0:
                    mutant[at] ^= 1 << int(rng.integers(8))
                case 1:
                    mutant[at : at + 1] = bytes([int(rng.integers(256))])
                case 2:
                    width = 1 << int(rng.integers(4))
                    mutant[at : at + width] = rng.choice([b"\xff", b"\0", b"\x80", b"\x7f"]) * width
                case 3:
                    del mutant[at : at + length]
                case 4:
                    mutant[at:at] = mutant[at : at + length]
                case _:
                    other = int(rng.integers(len(mutant)))
                    mutant[at : at + length] = mutant[other : other + length]
            mutant = mutant or bytearray(content)
        path = folder / f"{number}{suffix}"
        path.write_bytes(mutant)
        paths.append(path)
    return paths


def suffix_of(name: str) -> str:
    return name[name.index(".") :]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*IMAGES_OF, *MAPS_OF])
def test_mutants_are_images_failures_or_one_error(tmp_path: Path, name: str) -> None:
    make, code = (IMAGES_OF[name], LIST_AND_LOAD) if name in IMAGES_OF else (MAPS_OF[name], READ_MAPS)
    make(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / "mutants").mkdir()
    rng = np.random.default_rng(sum(name.encode()))
    paths = mutants(tmp_path / "mutants", content, suffix_of(name), 150, rng)
    if "tar." in name:  # what is inside, packed again
        opened = __import__({"gz": "gzip", "bz2": "bz2", "xz": "lzma"}[name.rpartition(".")[2]])
        inner = tmp_path / "inner"
        inner.mkdir()
        for path in mutants(inner, opened.decompress(content), suffix_of(name), 60, rng):
            path.write_bytes(opened.compress(path.read_bytes()))
            paths.append(path)
    ended = ends_of(*paths, code=code, seconds=90)
    assert len(ended) == len(paths)
    assert all(ended)


def test_a_mutant_of_nothing_is_refused(tmp_path: Path) -> None:
    paths = []
    for name in (*IMAGES_OF, *MAPS_OF):
        for number, content in enumerate((b"", b"\0", io.BytesIO(bytes(4096)).getvalue())):
            paths.append(tmp_path / f"{number}{name}")
            paths[-1].write_bytes(content)
    for found in ends_of(*paths):
        assert all(isinstance(end, str) for end in found.values())
