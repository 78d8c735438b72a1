"""The dataset or group of an HDF5 file that is most likely meant, where no name is given."""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np

from fcnseg.errors import ImageError
from fcnseg.io.hdf5 import name_of
from fcnseg.io.hdf5_axes import AmbiguousAxesError, ExpectedImages, kind_of, looks_encoded

STACK, ENCODED_FILES, GROUP, GREY_STACK, UNLIKELY = range(5)
"""Ranks, the likeliest first: many images with channels, many encoded files, single images in a group, many images of
one channel, anything else."""

NAMES_SHOWN = 8


def candidates(file: h5py.File, expected: ExpectedImages) -> list[str]:
    """Return the names of the datasets or groups of the best rank that any has, but none that are unlikely."""
    ranked: dict[int, dict[str, None]] = {}

    def visit(name: str | bytes, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and not os.fsencode(name).startswith(b"#"):  # MATLAB's own
            rank = _rank(node, expected)
            ranked.setdefault(rank, {})[name_of(node.parent if rank == GROUP else node)] = None

    file.visititems(visit)
    ranked.pop(UNLIKELY, None)
    return list(ranked[min(ranked)]) if ranked else []


def _rank(node: h5py.Dataset, expected: ExpectedImages) -> int:
    try:
        kind = kind_of(node, expected)
    except AmbiguousAxesError:
        return STACK
    except ImageError:
        return UNLIKELY
    if not kind.axes and not looks_encoded(node):
        return UNLIKELY
    depth = expected.modality == "depth" and node.dtype != np.uint8
    if not kind.many:
        return UNLIKELY if len(kind.axes) == 2 and not depth else GROUP
    if not kind.axes:
        return ENCODED_FILES
    return STACK if len(kind.axes) == 4 or depth else GREY_STACK


def held_text(names: list[str], modality: str) -> str:
    """Return what a file holds, for messages."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"it holds {', '.join(names[:NAMES_SHOWN]) or f'no {modality} images'}{more}"
