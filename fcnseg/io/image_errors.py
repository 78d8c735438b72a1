"""The faults of image files in one line each, whatever the decoders raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, UnidentifiedImageError

from fcnseg.errors import ImageError
from fcnseg.io.file_kinds import START_BYTES, described


@contextmanager
def image_errors(file: IO[bytes] | None = None) -> Iterator[None]:
    """Turn whatever Pillow's decoders raise on broken files, which is of every type, into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format{disguise(file)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{error}; if the image is genuine, raise --max-pixels") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it; use fewer --workers") from error
    except Exception as error:
        raise ImageError(f"cannot be decoded: {error or type(error).__name__}") from error


def disguise(file: IO[bytes] | None) -> str:
    """Return what a file that is no image is, if it is known."""
    if file is None:
        return ""
    file.seek(0)
    kind = described(file.read(START_BYTES))
    return f" (it is {kind})" if kind else ""
