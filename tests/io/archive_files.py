"""Archives of tests."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from fcnseg.io.image_source import ImageSource
from fcnseg.types import Failure, Reference

RNG = np.random.default_rng(0)
IMAGES = {name: RNG.integers(0, 256, (5, 4 + i, 3), dtype=np.uint8) for i, name in enumerate("abcdefgh")}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def listed(source: ImageSource) -> dict[str, Reference | Failure]:
    found = {found.key: found for found in source}
    assert list(source) == list(found.values())
    return found
