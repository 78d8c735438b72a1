"""Image files of tests, and the keys of sources of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from fcnseg.io.sources import open_source
from fcnseg.types import Reference


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(folder / name, format="PNG")


def keys(source: object, **options: object) -> list[str]:
    """The keys of a source, which lists the same a second time."""
    opened = open_source(source, **options)  # type: ignore[arg-type]
    listed = list(opened)
    assert list(opened) == listed
    assert all(isinstance(found, Reference) for found in listed), listed
    opened.close()
    return [found.key for found in listed]


@contextmanager
def without_privileges() -> Iterator[None]:
    """As somebody who may not read everything, which root may."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
