"""Remarks about an image that is read in spite of a fault: collected in the thread that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


def remark(text: str) -> None:
    """Note a fault of the image that is read, which its pixels do not show. Nothing comes of it outside `remarks`."""
    if (texts := _collected.get()) is not None and text not in texts:
        texts.append(text)


@contextmanager
def remarks() -> Iterator[list[str]]:
    """Collect the remarks made within."""
    texts: list[str] = []
    token = _collected.set(texts)
    try:
        yield texts
    finally:
        _collected.reset(token)
