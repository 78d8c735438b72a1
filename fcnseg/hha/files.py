"""HHA images in files, of depth maps in files: images as `fcnseg run` reads them, and `.npy` arrays."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnseg.errors import ImageError, OutputError, SettingsError, SourceError
from fcnseg.hha.camera import Camera
from fcnseg.hha.encoding import Array, encode
from fcnseg.io.atomic import whole_file
from fcnseg.io.folder_walk import walk
from fcnseg.io.names import is_hdf5_name
from fcnseg.io.own_outputs import NAME, SOFTWARE
from fcnseg.io.sources import open_source
from fcnseg.io.suffixes import NUMPY, has_suffix
from fcnseg.running.listing import survey
from fcnseg.running.name_rules import NameRules
from fcnseg.types import Failure, Reference, Summary
from fcnseg.workers.limits import usable_cores
from fcnseg.workers.threads import map_in_threads

MARK = (SOFTWARE, f"{NAME} hha")
"""Text chunk of the PNGs that are written: they may be overwritten."""


MILLIMETRES, METRES = 1000.0, 1.0
"""Units of depth in a metre: in image files, and in `.npy` and HDF5 files."""


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

    total = survey(depth_maps, check=check, remedy="rename one of them", rules=NameRules([out])).total
    summary = Summary(total)

    def encoded(entry: Reference | Failure) -> NDArray[np.uint8] | Failure:
        if isinstance(entry, Failure):
            return entry
        try:
            depth, own_scale = depth_maps.read(entry)
            return encode(depth / (scale or own_scale), camera)
        except ImageError as error:
            return Failure(entry.key, error.stage, str(error))

    results = map_in_threads(encoded, depth_maps, usable_cores())
    with closing(results):
        for number, (entry, result) in enumerate(results):
            on_progress(number, total)
            if isinstance(result, Failure):
                summary.add_failure(result)
            elif isinstance(entry, Reference):
                _write(_output(out, entry), result)
                summary.done += 1
    on_progress(total, total)
    return summary


class DepthMaps:
    """The depth maps of a source. Folders in `exclude` are not entered."""

    def __init__(self, source: str | Path, exclude: tuple[Path, ...] = ()) -> None:
        self.path, self.exclude = os.fspath(source), exclude
        self.single_array = has_suffix(self.path, NUMPY) and Path(self.path).is_file()
        self._images = None if self.single_array else open_source(self.path, ("depth",), exclude=exclude)

    def __iter__(self) -> Iterator[Reference | Failure]:
        """List the images, then the arrays. Raises SourceError at the end if there was neither."""
        arrays = list(self._arrays())
        try:
            yield from self._images or ()
        except SourceError:
            if not arrays:
                raise
        yield from arrays

    def _arrays(self) -> Iterator[Reference]:
        if self.single_array:
            yield _array_reference(Path(self.path).name, self.path)
        elif Path(self.path).is_dir():
            keys = (key for key in walk(self.path, (NUMPY,), self.exclude) if isinstance(key, str))
            yield from (_array_reference(key, str(Path(self.path, key))) for key in keys)

    def read(self, reference: Reference) -> tuple[Array, float]:
        """Read a depth map H x W and the units of its depth in a metre. Raises ImageError."""
        if self._images is None or (isinstance(reference.location, str) and has_suffix(reference.location, NUMPY)):
            return _read_array(reference.location), METRES
        depth = self._images.load(reference).inputs["depth"][..., 0]
        return depth, METRES if is_hdf5_name(self.path) else MILLIMETRES


def _array_reference(key: str, path: str) -> Reference:
    return Reference(key, key[: -len(NUMPY)], "", path)


def _read_array(file: str) -> Array:
    try:
        depth: Array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"cannot be read: {' '.join(str(error).split())}") from error
    if depth.ndim != 2 or depth.dtype.kind not in "uif" or not depth.size:
        raise ImageError(f"holds {depth.dtype} {' x '.join(map(str, depth.shape))}; a depth map is H x W numbers")
    return depth


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
