"""HHA images in files, of depth maps in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnseg.errors import ImageError, OutputError, SettingsError
from fcnseg.hha.camera import Camera
from fcnseg.hha.depth_maps import DepthMaps
from fcnseg.hha.encoding import encode
from fcnseg.io.atomic import whole_file
from fcnseg.running.listing import survey
from fcnseg.types import Failure, Reference, Summary

MARK = ("Software", "fcnseg hha")
"""Text chunk of the PNGs that are written: they may be overwritten."""


def encode_files(
    source: Path | str,
    camera: Camera,
    out: Path,
    scale: float | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Encode the depth maps of a folder, file, archive or HDF5 dataset as `out/<stem>.png`, each written atomically.

    `scale` is the units of depth in a metre (None: 1000 in images, 1 in `.npy` and HDF5). `on_progress` is called with
    the number done and the total. Inputs that fail are in the summary.

    Raises SourceError if there are no inputs; SettingsError if two would write one output, or if an output would
    replace an input or a file that is no earlier output; OutputError for an output that cannot be written.
    """
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise SettingsError(f"--depth-scale is {scale}; give how many units of depth a metre has, e.g. 1000")
    depth_maps = DepthMaps(source, exclude=(out,))

    def check(reference: Reference) -> None:
        _check_output(_output(out, reference), reference)

    total = survey(depth_maps, check=check, remedy="rename one of them").total
    summary = Summary(total)
    for number, entry in enumerate(depth_maps):
        on_progress(number, total)
        if isinstance(entry, Failure):
            summary.add_failure(entry)
            continue
        try:
            depth, own_scale = depth_maps.read(entry)
            pixels = encode(depth / (scale or own_scale), camera)
        except ImageError as error:
            summary.add_failure(Failure(entry.key, error.stage, str(error)))
            continue
        _write(_output(out, entry), pixels)
        summary.done += 1
    on_progress(total, total)
    return summary


def _output(out: Path, reference: Reference) -> Path:
    return out / f"{reference.stem}.png"


def _check_output(path: Path, reference: Reference) -> None:
    if not path.exists():
        return
    if isinstance(reference.location, str) and path.samefile(reference.location):
        raise SettingsError(f"{path} is a depth map itself; choose another --out")
    if not _is_own_output(path):
        raise SettingsError(f"{path} exists and fcnseg hha did not make it; remove it or choose another --out")


def _is_own_output(path: Path) -> bool:
    key, value = MARK
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get(key) == value
    except (OSError, ValueError, SyntaxError):
        return False


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    mark = PngInfo()
    mark.add_text(*MARK)
    try:
        with whole_file(path) as file:
            Image.fromarray(pixels).save(file, format="PNG", pnginfo=mark)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}; choose another --out") from error
