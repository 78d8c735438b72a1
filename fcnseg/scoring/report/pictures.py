"""Pictures of single images for reports: labels over the photograph, and where two label maps differ."""

from __future__ import annotations

import base64
import io
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import SettingsError
from fcnseg.io.overlays import overlay
from fcnseg.labels import LabelSpace
from fcnseg.scoring.confusion import Map

if TYPE_CHECKING:
    from PIL import Image

PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm")
LARGEST_PX = 560
OPACITY = 0.65
LITTLE = 0.01
"""Share of differing pixels below which they would hardly be seen."""

WRONG = (213, 94, 0)
"""Vermilion of Okabe & Ito's palette, which the colour-blind tell from grey."""


@dataclass(frozen=True)
class Picture:
    """One view of an image: `name` is left, right, wrong or photo; `uri` holds its bytes."""

    name: str
    title: str
    uri: str


@dataclass(frozen=True)
class Case:
    """An image with its views, all `width` x `height` px."""

    title: str
    key: str
    note: str
    width: int
    height: int
    pictures: tuple[Picture, ...]


class Photographs:
    """The photographs of a folder or a list, by the names of their label maps: paths, else unique file names."""

    def __init__(self, source: Path | None) -> None:
        root, files = Path(), list[Path]()
        if source and source.is_dir():
            root, files = source, sorted(source.rglob("*"))
        elif source and source.suffix.lower() == ".txt" and source.is_file():
            files = _listed(source)
            root = Path(os.path.commonpath([file.parent for file in files] or [source.parent]))
        elif source and source.is_file():
            root, files = source.parent, [source]
        named = [(file.relative_to(root).with_suffix("").as_posix(), file) for file in files if _is_photograph(file)]
        self.by_path = dict(reversed(named))
        stems = Counter(path.rpartition("/")[2] for path in self.by_path)
        found = ((path.rpartition("/")[2], file) for path, file in self.by_path.items())
        self.by_stem = {stem: file for stem, file in found if stems[stem] == 1}

    @classmethod
    def of(cls, images: Path | None, record: Mapping[str, Any]) -> Photographs:
        """Those of a folder, or else of the images of the run with this record.

        Raises SettingsError if a folder that was named is not there.
        """
        if images is not None and not images.exists():
            raise SettingsError(f"there is no {images} with images; check the path")
        source = (record.get("settings") or {}).get("source")
        return cls(images or (Path(str(source)) if source else None))

    def find(self, key: str, height: int, width: int) -> NDArray[np.uint8] | None:
        """The upright RGB pixels of an image, H x W x 3, if it is there in that size."""
        from PIL import Image, ImageOps, UnidentifiedImageError

        file = self.by_path.get(key) or self.by_stem.get(key.rpartition("/")[2])
        if file is None:
            return None
        try:
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, UnidentifiedImageError):
            return None
        return np.asarray(image) if image.size == (width, height) else None


def _is_photograph(file: Path) -> bool:
    return file.suffix.lower() in PHOTOGRAPHS


def _listed(file: Path) -> list[Path]:
    """The absolute paths in a list, one a line, as `fcnseg run` takes them: from the list's own folder."""
    lines = (line.strip() for line in file.read_text(errors="surrogateescape").splitlines())
    return [Path(os.path.abspath(file.parent / line)) for line in lines if line and not line.startswith("#")]


def draw_case(
    titles: Mapping[str, str],
    case: tuple[str, str, str],
    left: Map,
    right: Map,
    space: LabelSpace,
    photograph: NDArray[np.uint8] | None,
) -> Case:
    """Both label maps, where they differ, and the photograph if there is one.

    `titles` names the views left, right, wrong and photo; `case` is the title, key and note. Codes H x W: negative
    ones are void, which the difference leaves grey.
    """
    height, width = left.shape
    scale = min(1.0, LARGEST_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    blank = np.full((height, width, 3), 40, np.uint8)
    base = blank if photograph is None else photograph
    views = {
        name: overlay(base, _labels(codes, space), space, 1.0 if photograph is None else OPACITY)
        for name, codes in (("left", left), ("right", right))
    }
    views["wrong"] = difference(base, left, right)
    if photograph is not None:
        views["photo"] = photograph
    pictures = tuple(Picture(n, titles[n], _uri(pixels, size, photograph is None)) for n, pixels in views.items())
    return Case(*case, *size, pictures)


def difference(pixels: NDArray[np.uint8], left: Map, right: Map) -> NDArray[np.uint8]:
    """The image in grey, with what differs in vermilion, spread by a pixel where it is little; void is the same."""
    from PIL import Image, ImageFilter

    grey = pixels.mean(2, keepdims=True) * 0.5 + 60
    drawn = np.broadcast_to(grey, pixels.shape).astype(np.uint8).copy()
    differs = (left != right) & (left >= 0)
    if differs.mean() < LITTLE:
        differs = np.asarray(Image.fromarray(differs.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))) > 0
    drawn[differs] = WRONG
    return drawn


def _labels(codes: Map, space: LabelSpace) -> NDArray[np.uint16]:
    return np.where(codes < 0, max(space.ignore, space.classes), codes).astype(np.uint16)


def _uri(pixels: NDArray[np.uint8], size: tuple[int, int], flat: bool) -> str:
    """A small picture as a data URI: PNG of few colours without a photograph, else WebP."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.NEAREST if flat else Image.Resampling.BOX)
    return data_uri(image, "png" if flat else "webp")


def data_uri(image: Image.Image, form: str) -> str:
    """A Pillow image inside a text."""
    data = io.BytesIO()
    if form == "png":
        image.quantize(256).save(data, "PNG", optimize=True)
    else:
        image.save(data, "WEBP", quality=70)
    return f"data:image/{form};base64,{base64.b64encode(data.getvalue()).decode()}"
