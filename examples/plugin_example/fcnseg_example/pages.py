"""`pages://FILE`: the pages of a TIFF, or the frames of a GIF, as images of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from fcnseg import Failure, Frame, Reference
from fcnseg.errors import ImageError, SourceError


class PageSource:
    """The pages of one file. Its outputs are called FILE/0000, FILE/0001, ..."""

    def __init__(self, place: str) -> None:
        self.path = Path(place)
        try:
            with Image.open(self.path) as image:
                self.pages = int(getattr(image, "n_frames", 1))
        except (OSError, UnidentifiedImageError) as error:
            raise SourceError(f"{place} cannot be opened: {error}; give a TIFF or a GIF") from error

    def __iter__(self) -> Iterator[Reference | Failure]:
        for page in range(self.pages):
            name = f"{self.path.name}/{page:04}"
            yield Reference(key=name, stem=name, fingerprint="", location=page)

    def fingerprint(self, reference: Reference) -> str:
        """Return the size and the time of the file: when they change, its pages are done anew."""
        del reference
        status = self.path.stat()
        return f"{status.st_size}-{status.st_mtime_ns}"

    def load(self, reference: Reference, reserve: Any = lambda nbytes: None) -> Frame:
        """Decode one page. Every call opens the file, for several threads decode at once."""
        try:
            with Image.open(self.path) as image:
                image.seek(reference.location)
                reserve(3 * image.width * image.height)
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, EOFError) as error:
            raise ImageError(f"page {reference.location} cannot be read: {error}") from error
        return Frame(reference.key, reference.stem, {"color": pixels})

    def close(self) -> None:
        """Hold nothing open."""
