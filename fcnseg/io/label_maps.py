"""Label maps as people keep them: images, `.npy`, `.mat` and HDF5, read without interpreting their values."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.conventions import VARIABLES
from fcnseg.io.png_unfiltered import read_unfiltered
from fcnseg.labels import Color

IMAGES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".pnm")
LOSSY = (".jpg", ".jpeg", ".webp")
MAPS = (*IMAGES, *LOSSY, ".npy", ".npz", ".mat")
"""The suffixes of files that hold one label map each; lossy ones are listed, so that reading them can say why not."""
VOLUMES = (".h5", ".hdf5", ".hdf")

RANKED = ".classes"
"""How the names of datasets end that say whose the probabilities beside them are."""


@dataclass(frozen=True)
class MapLocation:
    """Where a map is: a file, and in files of many the dataset and its number."""

    file: str
    dataset: str = ""
    number: int | None = None

    def __str__(self) -> str:
        inside = f"::{self.dataset}" if self.dataset else ""
        return f"{self.file}{inside}" + (f"[{self.number}]" if self.number is not None else "")


@dataclass(frozen=True)
class RawMap:
    """What a file holds: values H x W (any whole numbers), or colours H x W x 3 (uint8 RGB), or probabilities
    K x H x W (floats). `palette` is an indexed image's, `variable` the name in a `.mat` file, `confidence` the
    probability of each label, H x W, where it was kept beside labels.
    """

    values: NDArray[Any]
    palette: tuple[Color, ...] = ()
    variable: str = ""
    confidence: NDArray[Any] | None = None

    @property
    def kind(self) -> str:
        """One of "labels", "colors", "probabilities"."""
        if self.values.ndim == 2:
            return "labels"
        return "probabilities" if self.values.dtype.kind == "f" else "colors"


def read_map(place: MapLocation) -> RawMap:
    """Read one map. Raises LabelsError that names the place and says what is wrong with it."""
    suffix = Path(place.file).suffix.lower()
    with _named(place):
        if place.dataset:
            return _checked(_from_volume(place))
        if suffix == ".npy":
            return _checked(RawMap(np.load(place.file, allow_pickle=False)))
        if suffix == ".npz":
            return _checked(_from_top_k(place.file))
        if suffix == ".mat":
            return _checked(_from_mat(place.file))
        return _checked(_from_image(Path(place.file).read_bytes()))


@contextmanager
def _named(place: MapLocation) -> Iterator[None]:
    """Everything that readers raise on a damaged or foreign file, as one error that names the file."""
    try:
        yield
    except LabelsError as error:
        raise LabelsError(f"{place} {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow, NumPy, SciPy and h5py raise all kinds on damaged files
        raise LabelsError(f"{place} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    message = str(error).partition("\n")[0] or type(error).__name__
    if "cannot identify" in message:
        return "it is no image that can be read"
    return "it is no HDF5 file" if "file signature not found" in message else message


def _checked(raw: RawMap) -> RawMap:
    values = raw.values
    if values.dtype == bool:
        values = values.astype(np.uint8)
    colors = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if values.ndim == 3 and values.shape[0] == 1 and values.dtype.kind in "iu" and not colors:
        values = values[0]
    if values.ndim == 2 and values.dtype.kind == "f":
        whole = (np.abs(values) < 1 << 53) & (values == np.floor(values))
        if not raw.variable or not whole.all():  # MATLAB's numbers are floats by default
            raise LabelsError(f"holds {values.dtype} values H x W; label maps must be whole numbers")
        values = values.astype(np.int64)
    colors = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if not (
        (values.dtype.kind in "iu" and (values.ndim == 2 or colors)) or (values.dtype.kind == "f" and values.ndim == 3)
    ):
        shape = " x ".join(map(str, values.shape)) or "a single value"
        raise LabelsError(
            f"holds {values.dtype} {shape}; a label map is whole numbers H x W (or RGB), probabilities are K x H x W"
        )
    if values.size == 0:
        raise LabelsError("is empty")
    if values.dtype == np.uint64 and values.max() > np.iinfo(np.int64).max:
        raise LabelsError(f"holds the value {values.max()}; labels must fit 63 bits")
    return replace(raw, values=values)


def _from_top_k(file: str) -> RawMap:
    """What `fcnseg run --top-k` writes: `classes` and `probabilities`, k x H x W, the most probable first."""
    with np.load(file, allow_pickle=False) as found:
        if set(found) != {"classes", "probabilities"} or found["classes"].shape != found["probabilities"].shape:
            raise LabelsError(f"holds {', '.join(found)}; expected classes and probabilities, k x H x W")
        return RawMap(found["classes"][0], confidence=found["probabilities"][0])


# ---------------------------------------------------------------------- images


PNG = b"\x89PNG\r\n\x1a\n"
GREY_STEP = {2: 85, 4: 17}
"""By bit depth (byte 24 of a PNG): Pillow spreads few levels over 0..255; divided by this they are the file's again."""


def _from_image(data: bytes) -> RawMap:
    if simple := read_unfiltered(data):
        return RawMap(simple[0], _colors(simple[1]))

    from PIL import Image

    image: Image.Image
    with _any_size(), Image.open(io.BytesIO(data)) as image:
        if image.format in ("JPEG", "WEBP", "MPO"):
            raise LabelsError(f"is {image.format}, which changes labels; keep label maps as PNG")
        if getattr(image, "n_frames", 1) > 1:
            raise LabelsError(f"holds {image.n_frames} pictures; keep one label map in a file")  # type: ignore[attr-defined]
        if image.mode.startswith("RGB") and data[:8] == PNG and data[24] == 16:
            raise LabelsError("has colours of 16 bits a channel; save them with 8")
        if image.mode == "P":
            return RawMap(np.asarray(image), _colors(bytes(image.getpalette() or ())))
        if image.mode == "F":
            raise LabelsError("holds float32 values; label maps must be whole numbers")
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise LabelsError(f"has {image.mode} colours; save it as RGB, or with labels as its grey levels")
        if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema() != (255, 255):
            raise LabelsError("is partly transparent, so that its labels are uncertain; save it without alpha")
        values = np.asarray(image)
        if image.mode in ("RGBA", "LA", "PA"):
            values = values[..., :3] if image.mode == "RGBA" else values[..., 0]
        if image.mode == "L" and data[:8] == PNG:
            values = values // GREY_STEP.get(data[24], 1)
        return RawMap(values)


@lru_cache(maxsize=64)
def _colors(palette: bytes) -> tuple[Color, ...]:
    """The colours of a palette R, G, B, R, G, B ..."""
    return tuple(zip(*[iter(palette)] * 3, strict=False))


@contextmanager
def _any_size() -> Iterator[None]:
    """Label maps of orbits and slides have more pixels than Pillow lets images have (for the whole process)."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


# ---------------------------------------------------------------------- MATLAB


def _from_mat(file: str) -> RawMap:
    from scipy.io import loadmat

    try:
        found = loadmat(file)
    except NotImplementedError:  # version 7.3 is HDF5
        return _from_mat73(file)
    name = _variable([n for n, v in found.items() if not n.startswith("__") and _is_map(n, v)])
    value = found[name]
    if name == "GTcls":
        if "Segmentation" not in (value.dtype.names or ()):
            raise LabelsError("has a GTcls without Segmentation; SBD's has one")
        value = value["Segmentation"][0, 0]
    return RawMap(value, variable=name)


def _is_map(name: str, value: NDArray[Any]) -> bool:
    return name == "GTcls" or (value.ndim == 2 and value.dtype.kind in "biuf" and min(value.shape) > 0)


def _from_mat73(file: str) -> RawMap:
    import h5py

    with h5py.File(file) as h5:
        names = [n for n, v in h5.items() if n == "GTcls" or (isinstance(v, h5py.Dataset) and v.ndim == 2)]
        name = _variable(names)
        node = h5[name]
        return RawMap((node["Segmentation"] if name == "GTcls" else node)[()].T, variable=name)


def _variable(names: list[str]) -> str:
    known = [name for name in VARIABLES if name in names] or names
    if len(known) != 1:
        held = ", ".join(names) or "none"
        raise LabelsError(f"has several or no label maps ({held}); expected one, or {', '.join(VARIABLES)}")
    return known[0]


# ---------------------------------------------------------------------- HDF5


def locate_in_hdf5(file: str, name: str = "") -> dict[str, MapLocation]:
    """The maps of an HDF5 file, or of one of its groups or datasets: where each is, by its name.

    A dataset H x W is one map; whole numbers N x H x W are N, floats K x H x W one map's probabilities, and
    N x K x H x W those of N. Beside the probabilities of the most probable classes lie these, as NAME.classes.
    Raises LabelsError if it cannot be read or holds none.
    """
    import h5py

    places: dict[str, MapLocation] = {}
    with _named(MapLocation(file)), h5py.File(file) as h5:
        if name and name not in h5:
            raise LabelsError(f"has no {name}; it holds {', '.join(h5) or 'nothing'}")
        root = h5[name or "/"]

        def visit(path: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and not node.name.startswith("/#"):  # MATLAB's own
                places.update(_members(file, path, node))

        if isinstance(root, h5py.Dataset):
            visit("", root)
        else:
            root.visititems(visit)
        if not places:
            raise LabelsError("holds no label maps: datasets H x W, N x H x W or K x H x W")
    return places


def has_dataset(file: str, name: str) -> bool:
    """Whether an HDF5 file has a group or dataset of that name. Raises LabelsError if it cannot be read."""
    import h5py

    with _named(MapLocation(file)), h5py.File(file) as h5:
        return name in h5


def _members(file: str, path: str, node: Any) -> dict[str, MapLocation]:
    floats = node.dtype.kind == "f"
    best = node.name.removesuffix(RANKED)
    if node.dtype.kind not in "biuf" or node.ndim not in (2, 3, 4) or (best != node.name and best in node.file):
        return {}
    colors = node.dtype == np.uint8 and node.shape[-1] == 3
    if node.ndim - (1 if floats or colors else 0) == 2:
        return {path or node.name.rpartition("/")[2]: MapLocation(file, node.name)}
    if node.ndim - (1 if floats or colors else 0) == 3:
        return {f"{path}/{i:06}".lstrip("/"): MapLocation(file, node.name, i) for i in range(len(node))}
    return {}


def _from_volume(place: MapLocation) -> RawMap:
    import h5py

    with h5py.File(place.file) as h5:
        node = h5[place.dataset]
        if ranked := h5.get(f"{place.dataset}{RANKED}"):
            return RawMap(ranked[0], confidence=node[0])
        values = node[()] if place.number is None else node[place.number]
        if place.file.lower().endswith(".mat"):  # column by column
            values = values.swapaxes(-1, -2)
        return RawMap(values)
