"""The status of a run: of its inputs, and of its shards if it has these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from fcnseg.types import Failure


@dataclass(frozen=True)
class PartStatus:
    """One part: its inputs by the newest listing (None: not known, for none has started), and how many of them are
    done, failed, or being done by a living process.

    `ended`: the last run came to its end; `at_work`: a process works on it now. `assembled`: the HDF5
    files it was to write are as it wrote them.
    """

    index: int
    inputs: int | None
    done: int = 0
    failed: int = 0
    running: int = 0
    started: bool = True
    ended: bool = True
    at_work: bool = False
    assembled: bool = True

    @property
    def missing(self) -> int:
        """The inputs that have not ended and that no process works on."""
        return max(0, (self.inputs or 0) - self.done - self.failed - self.running)

    @property
    def whole(self) -> bool:
        """Tell whether every input is done."""
        return self.started and self.ended and self.assembled and self.done == self.inputs


@dataclass(frozen=True)
class ShardsStatus:
    """The shards of a run, `done` of `total`, and the processes that drive it now, in words."""

    total: int
    done: int
    drivers: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunStatus:
    """The status of a run, in one part or several. `left_out` counts files of the source that are no images by suffix;
    `failures` yields every failed input. `shards` is None for runs of one machine. `resize_short` is the short side
    that images are resized to for the network, px, None if they are not."""

    parts: list[PartStatus]
    left_out: Mapping[str, int]
    failures: Callable[[], Iterator[Failure]]
    shards: ShardsStatus | None = None
    resize_short: int | None = None
