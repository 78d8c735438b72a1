"""The source of every kind of input: images of one modality, and companions of further ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import translate
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io.folders import file_fingerprint
from fcnseg.io.image_limits import check_memory
from fcnseg.io.images import BYTES_PER_PIXEL, MAX_PIXELS, OnSize, announced_size
from fcnseg.io.left_out import kind_named
from fcnseg.io.suffixes import IMAGES
from fcnseg.types import Failure, Frame, Pixels, Reference, Reserve


class ImageCollection(Protocol):
    """Images of one modality: listed any number of times, read by a reference's location, from any thread."""

    def __iter__(self) -> Iterator[Reference | Failure]: ...

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Decode one image, calling `on_size` once when its size is known. Raises ImageError."""

    def close(self) -> None:
        """Release open files."""


class CompanionCollection(Protocol):
    """Images of a further modality, found by the reference of the first."""

    def find(self, reference: Reference) -> Any:
        """Return the location of the one image that goes with it. Raises ImageError if there is none."""

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """As ImageCollection.read."""

    def fingerprint(self, location: Any) -> str:
        """Return a text that changes when the image does."""

    def close(self) -> None:
        """As ImageCollection.close."""


class ImageSource:
    """The `Source` of every kind of input: images of the first modality and their companions.

    `name` is the source as the user gave it. A reference's location is the path of a file, or whatever finds an image
    in storage or within an archive or HDF5 file; JSON can keep it, and what it gives back is taken.
    """

    def __init__(
        self,
        name: str,
        images: ImageCollection,
        modality: str = "color",
        companions: Mapping[str, CompanionCollection] | None = None,
        pattern: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.name, self.modality, self.pattern, self.max_pixels = name, modality, pattern, max_pixels
        self._images, self._companions = images, companions or {}
        self._matches = re.compile(translate(pattern)).match if pattern is not None else None

    def __iter__(self) -> Iterator[Reference | Failure]:
        """List the images. Raises SourceError at the end if there was none."""
        empty = True
        for entry in self._images:
            if self._matches is None or self._is_chosen(entry):
                empty = False
                yield entry
        if empty:
            fault = f"no images match {self.pattern!r} in" if self._matches else "there are no images in"
            kinds = ", ".join(f"{count:,} {kind_named(kind)}" for kind, count in self.left_out.items())
            others = f" (but {kinds})" if kinds else ""
            raise SourceError(f"{fault} {self.name}{others}; images are files that end in {' '.join(sorted(IMAGES))}")

    def _is_chosen(self, entry: Reference | Failure) -> bool:
        """Tell whether the pattern matches the key or its last part; an unlisted folder may hold matches."""
        assert self._matches
        key = entry.key
        return bool(key.endswith("/") or self._matches(key) or self._matches(key.rpartition("/")[2]))

    @property
    def left_out(self) -> Mapping[str, int]:
        """The number of files not taken for images, as `LeftOut` counts them, once all is listed; none where a pattern
        chooses images."""
        left_out: Mapping[str, int] = {} if self._matches else getattr(self._images, "left_out", {})
        return left_out

    @property
    def excluded_inside(self) -> list[str]:
        """The folders to exclude that lie in the source, by their paths in it, once it was listed."""
        return getattr(self._images, "excluded_inside", [])

    @property
    def root(self) -> str | None:
        """The deepest folder above all files of a list, once it was listed; None for other sources."""
        return getattr(self._images, "common", None)

    def locations(self, reference: Reference) -> dict[str, Any]:
        """Return the location of each modality's image. Raises ImageError if a companion is missing or not the only
        one."""
        location_type = getattr(self._images, "location_type", None)
        if location_type and isinstance(reference.location, list):
            reference = replace(reference, location=location_type(*reference.location))
        others = {name: companions.find(reference) for name, companions in self._companions.items()}
        return {self.modality: reference.location, **others}

    def files(self, reference: Reference) -> dict[str, Path]:
        """Return the file of each modality's image. Raises SettingsError if they lie in an archive or HDF5 file,
        ImageError as `locations`."""
        locations = self.locations(reference)
        if not all(isinstance(location, str) for location in locations.values()):
            raise SettingsError(f"the images of {self.name} are no files of their own; give a folder of images")
        return {name: Path(location) for name, location in locations.items()}

    def fingerprint(self, reference: Reference) -> str:
        """Return a text that changes when the image or one of its companions does."""
        look = getattr(self._images, "fingerprint", file_fingerprint)
        fingerprints = [reference.fingerprint or look(reference.location)]
        for companions in self._companions.values():
            try:
                fingerprints.append(companions.fingerprint(companions.find(reference)))
            except ImageError:
                fingerprints.append("missing")
        return " ".join(fingerprints)

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """Decode one image and its companions. `reserve` is called with the bytes of all their pixels, and those
        that decoding the first takes, when its size is known. Raises ImageError if any is missing, broken or of another
        size."""
        locations = self.locations(reference)
        sizes: dict[str, tuple[int, int]] = {}

        def announce(modality: str, height: int, width: int, decoder_bytes: int = 0) -> None:
            if not sizes:
                nbytes = height * width * sum(BYTES_PER_PIXEL[name] for name in locations) + decoder_bytes
                check_memory(nbytes)
                reserve(nbytes)
            sizes[modality] = height, width
            if len(set(sizes.values())) > 1:
                shown = ", ".join(f"{name} is {w} x {h}" for name, (h, w) in sizes.items())
                raise ImageError(f"{shown}; they must be of one size")

        inputs = {
            name: self._companions.get(name, self._images).read(
                location, name, self.max_pixels, partial(announce, name)
            )
            for name, location in locations.items()
        }
        return Frame(reference.key, reference.stem, inputs)

    def size(self, reference: Reference) -> tuple[int, int] | None:
        """Return the upright height and width, px, of the first modality by the image's header; None if it is none."""
        try:
            return announced_size(partial(self._images.read, reference.location, self.modality, self.max_pixels))
        except ImageError:
            return None

    def close(self) -> None:
        """Release open files."""
        self._images.close()
        for companions in self._companions.values():
            companions.close()
