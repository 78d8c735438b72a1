"""The faults of image files in one line each, whatever the decoders raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, UnidentifiedImageError

from fcnseg.errors import ImageError
from fcnseg.io.file_kinds import START_BYTES, described
from fcnseg.io.image_kinds import kind_of


@contextmanager
def image_errors(file: IO[bytes] | None = None) -> Iterator[None]:
    """Turn whatever Pillow's decoders raise on broken files, which is of every type, into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_unidentified(file)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{error}; if the image is genuine, raise --max-pixels") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or _line(error)}") from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it; use fewer --workers") from error
    except Exception as error:
        raise ImageError(f"cannot be decoded: {_line(error) or type(error).__name__}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _unidentified(file: IO[bytes] | None) -> str:
    """Say what a file is that Pillow takes for no image."""
    if file is None:
        return "not an image of a known format"
    file.seek(0)
    start = file.read(START_BYTES)
    if kind := kind_of(start):
        return f"the {kind} is damaged or cut short: its header cannot be read"
    kind = described(start)
    return "not an image of a known format" + (f" (it is {kind})" if kind else "")
