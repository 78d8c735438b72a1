"""A small ext4 drive in a file, and copies of that file, each of which is what a power cut at that moment leaves."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = "48M"


@contextmanager
def mounted_image(image: Path, place: Path) -> Iterator[Path]:
    """Mount an image file; an ext4 that was cut off replays its journal."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def new_image(image: Path) -> Path:
    """Make an image file; skips where it cannot be made or mounted."""
    if not all(map(shutil.which, ("mkfs.ext4", "mount", "truncate"))):
        pytest.skip("there is no mkfs.ext4 or mount here")
    subprocess.run(["truncate", "-s", SIZE, str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    try:
        with mounted_image(image, image.with_suffix(".try")):
            pass
    except subprocess.CalledProcessError:
        pytest.skip("mounting an image is not allowed here")
    return image


def copy_of(image: Path, copy: Path) -> Path:
    """Copy an image file while it is mounted, all of one moment: whoever writes to it must have been halted.

    Nothing is flushed for it. What the file system writes by itself meanwhile makes the copy void, and it is made anew.
    """
    while True:
        subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
        if filecmp.cmp(image, copy, shallow=False):
            return copy
