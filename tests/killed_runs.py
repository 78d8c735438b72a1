"""Runs in subprocesses that tests kill: small images, the start of one, and what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(folder: Path, images: int) -> Path:
    """Write images of several sizes to the folders 0 to 6 of a folder; return it."""
    rng = np.random.default_rng(0)
    for i in range(images):
        path = folder / f"{i % 7}" / f"{i:04}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i % 5, 30, 3), dtype=np.uint8)).save(path, compress_level=1)
    return folder


def start(child: str, photos: Path, out: Path) -> subprocess.Popen[str]:
    """Start a script of Python with two folders as its arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", child, str(photos), str(out)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file but the records, by path."""
    files = (p for p in folder.rglob("*") if p.is_file() and ".fcnseg" not in p.relative_to(folder).parts)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
