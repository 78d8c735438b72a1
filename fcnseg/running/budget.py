"""Back-pressure: a bound on the bytes between two stages."""

from __future__ import annotations

import threading


class Stopped(Exception):  # noqa: N818 - no error: the run ends
    """Raised in threads that wait for room when the run stops."""


class Budget:
    """Room for so many bytes in so many items. An item alone has room whatever its size."""

    def __init__(self, limit_bytes: int, limit_items: int) -> None:
        self.limit_bytes, self.limit_items = limit_bytes, limit_items
        self._bytes = self._items = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, nbytes: int) -> None:
        """Wait until an item of that size has room, and take it. Raises Stopped after `stop`."""
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
        """Free the room of an item of that size."""
        with self._changed:
            self._bytes -= nbytes
            self._items -= 1
            self._changed.notify_all()

    def add(self, nbytes: int) -> None:
        """Take more room for an item that is there, whether or not there is any."""
        with self._changed:
            self._bytes += nbytes

    def give_back_part(self, nbytes: int) -> None:
        """Free so much of the room of an item that stays."""
        with self._changed:
            self._bytes -= nbytes
            self._changed.notify_all()

    def stop(self) -> None:
        """Make all calls of `take` raise Stopped."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
