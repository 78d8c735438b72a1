"""Depth maps in files to HHA images in files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnseg.errors import ImageError, OutputError, SettingsError, SourceError
from fcnseg.hha.camera import Camera
from fcnseg.hha.encoding import Array, encode
from fcnseg.io.atomic import whole_file
from fcnseg.io.names import is_hdf5_name
from fcnseg.io.sources import ImageSource, open_source
from fcnseg.types import Failure, Reference, Summary

MILLIMETRES, METRES = 1000.0, 1.0
"""How many units a metre has in image files, and in `.npy` and HDF5 files, unless it is said."""


MARK = ("Software", "fcnseg hha")
"""What the PNGs that are written say of themselves."""


@dataclass(frozen=True)
class DepthMap:
    """One input: its name, the output's without suffix, and what reads it: H x W in its own unit, and how many of
    these a metre has."""

    key: str
    stem: str
    read: Callable[[], tuple[Array, float]]
    file: Path | None


def encode_files(
    source: Path | str,
    camera: Camera,
    out: Path,
    scale: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Encode the depth maps of a folder, file, archive or HDF5 dataset; writes `out/<name>.png`, each whole or not at
    all. `scale` is how many units of depth a metre has (None: 1000 in images, 1 in `.npy` and HDF5). `progress` is
    called with the number done and the total.

    Raises SourceError if there are none, SettingsError if two would write one file, or one over itself or a file that
    is not an earlier output, OutputError for an output that cannot be written. What fails of single inputs is in the
    summary.
    """
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise SettingsError(f"--depth-scale is {scale}; give how many units of depth a metre has, e.g. 1000")
    found = list(_listed(os.fspath(source), out))
    _check_outputs([each for each in found if isinstance(each, DepthMap)], out)
    summary = Summary(len(found))
    for number, each in enumerate(found):
        progress(number, len(found))
        if isinstance(each, Failure):
            summary.add_failure(each)
            continue
        try:
            depth, own = each.read()
            pixels = encode(depth / (scale or own), camera)
        except ImageError as error:
            summary.add_failure(Failure(each.key, error.stage, str(error)))
            continue
        _write(out / f"{each.stem}.png", pixels)
        summary.done += 1
    progress(len(found), len(found))
    return summary


def _check_outputs(maps: list[DepthMap], out: Path) -> None:
    stems: dict[str, str] = {}
    for each in maps:
        if each.stem in stems:
            raise SettingsError(
                f"{stems[each.stem]} and {each.key} would both write {each.stem}.png; rename one of them"
            )
        stems[each.stem] = each.key
        target = out / f"{each.stem}.png"
        if each.file is not None and target.exists() and target.samefile(each.file):
            raise SettingsError(f"{target} is a depth map itself; choose another --out")
        if target.exists() and not _is_output(target):
            raise SettingsError(f"{target} exists and fcnseg hha did not make it; remove it or choose another --out")


def _is_output(path: Path) -> bool:
    key, value = MARK
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get(key) == value
    except (OSError, ValueError, SyntaxError):
        return False


def _write(path: Path, pixels: Any) -> None:
    mark = PngInfo()
    mark.add_text(*MARK)
    try:
        with whole_file(path) as file:
            Image.fromarray(pixels).save(file, format="PNG", pnginfo=mark)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}; choose another --out") from error


# ---------------------------------------------------------------------- inputs


def _listed(source: str, out: Path) -> Iterator[DepthMap | Failure]:
    arrays = _arrays(Path(source))
    if arrays and Path(source).is_file():
        yield from arrays
        return
    opened = open_source(source, ("depth",), exclude=(out,))
    scale = METRES if is_hdf5_name(source) else MILLIMETRES
    try:
        for each in opened:
            yield each if isinstance(each, Failure) else _image(opened, each, scale)
    except SourceError:
        if not arrays:
            raise
    yield from arrays


def _image(opened: ImageSource, reference: Reference, scale: float) -> DepthMap:
    file = Path(reference.location) if isinstance(reference.location, str) else None
    return DepthMap(
        reference.key, reference.stem, lambda: (opened.load(reference).inputs["depth"][..., 0], scale), file
    )


def _arrays(source: Path) -> list[DepthMap]:
    """The `.npy` files below a folder, hidden ones left out, or that file."""
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    root = source if source.is_dir() else source.parent
    keys = {file: file.relative_to(root) for file in files if file.suffix.lower() == ".npy" and file.is_file()}
    hidden = {file for file, key in keys.items() if file != source and any(part[0] == "." for part in key.parts)}
    return [_array(file, key) for file, key in keys.items() if file not in hidden]


def _array(file: Path, key: Path) -> DepthMap:
    def read() -> tuple[Array, float]:
        try:
            depth = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ImageError(f"cannot be read: {' '.join(str(error).split())}") from error
        if depth.ndim != 2 or depth.dtype.kind not in "uif" or not depth.size:
            raise ImageError(f"holds {depth.dtype} {' x '.join(map(str, depth.shape))}; a depth map is H x W numbers")
        return depth, METRES

    return DepthMap(key.as_posix(), key.with_suffix("").as_posix(), read, file)
