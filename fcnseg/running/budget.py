"""Back-pressure: how much may be in memory between two stages."""

from __future__ import annotations

import threading


class Stopped(Exception):  # noqa: N818 - no error: the run ends
    """Raised to those who wait for room when there is no need to go on."""


class Budget:
    """Room for so many bytes in so many items. Whatever its size, one item alone is always let in."""

    def __init__(self, limit_bytes: int, limit_items: int) -> None:
        self.limit_bytes, self.limit_items = limit_bytes, limit_items
        self._bytes = self._items = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, nbytes: int) -> None:
        """Wait until an item of that size has room, and give it. Raises Stopped after `stop`."""
        with self._changed:
            while self._items and not self._stopped and not self._fits(nbytes):
                self._changed.wait()
            if self._stopped:
                raise Stopped
            self._bytes += nbytes
            self._items += 1

    def _fits(self, nbytes: int) -> bool:
        return self._items < self.limit_items and self._bytes + nbytes <= self.limit_bytes

    def give_back(self, nbytes: int) -> None:
        """The item of that size is gone."""
        with self._changed:
            self._bytes -= nbytes
            self._items -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
