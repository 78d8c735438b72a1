"""The limits of what is decoded: pixels, bytes and memory."""

from __future__ import annotations

from fcnseg.errors import ImageError
from fcnseg.workers.limits import free_memory_bytes

SPARE_BYTES = 1 << 20
"""The least size that a file may have besides its pixels."""

METADATA_BYTES = 64 << 20
"""The most that a member of an archive may have besides its pixels."""

SURELY_FREE_BYTES = 256 << 20
"""Images that take fewer are decoded without a look at the memory."""


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Raise ImageError for more pixels than are allowed."""
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} pixels is more than the limit of {max_pixels}; "
            "if the image is genuine, raise --max-pixels"
        )


def check_memory(nbytes: int) -> None:
    """Raise ImageError if decoding takes many bytes, and more than are free."""
    if nbytes > SURELY_FREE_BYTES and nbytes > (free := free_memory_bytes()):
        raise ImageError(
            f"decoding it takes {nbytes / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; save it as JPEG or "
            "TIFF, which take less, or use fewer --workers"
        )


def check_bytes(size: int, max_pixels: int) -> None:
    """Raise ImageError for an encoded file larger than any image of allowed size (8 bytes a pixel), before it is read
    or unpacked."""
    limit = 8 * max_pixels + SPARE_BYTES
    if size > limit:
        raise ImageError(f"{size} bytes is more than an image of {max_pixels} pixels takes ({limit}); see --max-pixels")
