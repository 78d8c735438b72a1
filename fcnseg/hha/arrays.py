"""Depth maps as NumPy files."""

from __future__ import annotations

import numpy as np

from fcnseg.errors import ImageError
from fcnseg.hha.encoding import Array


def read_array(file: str) -> Array:
    """Read a depth map H x W of numbers from a `.npy` file. Raises ImageError."""
    try:
        depth: Array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"cannot be read: {' '.join(str(error).split())}") from error
    if depth.ndim != 2 or depth.dtype.kind not in "uif" or not depth.size:
        raise ImageError(f"holds {depth.dtype} {' x '.join(map(str, depth.shape))}; a depth map is H x W numbers")
    return depth
