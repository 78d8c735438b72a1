"""Leases: one driver at a time on an output, by signs of life and writes that only one can win.

A lease is a row of objects, `leases/<part>/<number>.json`. A driver takes the next number with a write that succeeds
only if there is no such object; the highest number holds the lease. Its holder overwrites its own object every few
seconds, stops if it finds a higher number, and deletes its object when it ends. So no clock of a client counts, only
the storage's, and no write depends on what another one read. If two drivers run all the same for a while, work is done
twice and nothing else: manifests are put once.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from fcnseg.errors import NoObjectError, ObjectExistsError, OutputError, StorageError
from fcnseg.io.buckets import Bucket, ObjectInfo
from fcnseg.io.parts import Part
from fcnseg.running.sharded.places import LEASES, number_of

BEAT_SECONDS = 5.0
"""The time between two signs of life."""

LAPSE_SECONDS = 30.0
"""The silence after which another driver may take over."""


@dataclass(frozen=True)
class Holder:
    """The driver that holds a lease, a process. `beats` makes each write another one."""

    host: str
    boot: str
    pid: int
    started: float
    beats: int = 0

    @classmethod
    def this(cls) -> Holder:
        """Return this process."""
        return cls(platform.node(), _boot(), os.getpid(), psutil.Process().create_time())

    @property
    def is_gone(self) -> bool:
        """Tell whether it was a process of this machine and is no more; False if that is not known."""
        if (self.host, self.boot) != (platform.node(), _boot()):
            return False
        try:
            return bool(psutil.Process(self.pid).create_time() != self.started)
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _boot() -> str:
    """Return what tells this start of the machine, and this container's processes, from others."""
    with suppress(OSError):
        space = Path("/proc/self/ns/pid").readlink()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {space}"
    return ""


class Lease:
    """The right to drive a run, or one part of it, in the `with` block. `on_wait` hears of waiting for a silent driver.

    Entering raises OutputError while another driver is alive, StorageError if the storage cannot be used.
    """

    def __init__(
        self,
        bucket: Bucket,
        part: Part = Part(),  # noqa: B008 - frozen
        on_wait: Callable[[str], None] = lambda line: None,
        *,
        beat_seconds: float = BEAT_SECONDS,
        lapse_seconds: float = LAPSE_SECONDS,
    ) -> None:
        self.bucket, self.part, self.on_wait = bucket, part, on_wait
        self.beat_seconds, self.lapse_seconds = beat_seconds, lapse_seconds
        self._holder, self._number = Holder.this(), 0
        self._lost = ""
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        newest = self._await_others()
        self._number = newest + 1
        try:
            self.bucket.put(self._key(self._number), self._content(), create_only=True)
        except ObjectExistsError as error:
            raise self._refusal("another driver took over just now") from error
        if self._newest_of(self.part) != self._number:
            raise self._refusal("another driver took over just now")
        self._beating.start()
        return self

    def _await_others(self) -> int:
        """Return the newest number of this part when no other driver is alive. Raises OutputError if one is."""
        told = False
        while True:
            alive = [found for found in self._others() if not self._is_dead(found)]
            if not alive:
                return self._newest_of(self.part)
            silent_seconds = min(self._silent_seconds(found) for found in alive)
            if silent_seconds < 3 * self.beat_seconds:
                holder = self._read(alive[0])
                raise self._refusal(f"{holder or 'another driver'} writes to it, alive {silent_seconds:.0f} s ago")
            if not told:
                told = True
                silent = f"{self._read(alive[0])} has been silent for {silent_seconds:.0f} s"
                self.on_wait(f"{silent}; this run takes over if it stays so")
            time.sleep(self.beat_seconds / 5)

    def _others(self) -> list[ObjectInfo]:
        """Return the newest object of this lease, and of every lease that excludes it."""
        newest: dict[str, ObjectInfo] = {}
        for found in self.bucket.list(LEASES):
            name = found.key.removeprefix(f"{LEASES}/").partition("/")[0]
            if number_of(found.key) is None or not self._excludes(name):
                continue
            if name not in newest or found.key > newest[name].key:
                newest[name] = found
        return list(newest.values())

    def _excludes(self, name: str) -> bool:
        """Tell whether the lease of that name cannot be held together with this: other parts of as many can."""
        index, _, count = name.partition("-of-")
        return count != str(self.part.count) or index == str(self.part.index)

    def _is_dead(self, found: ObjectInfo) -> bool:
        holder = self._read(found)
        return holder is None or holder.is_gone or self._silent_seconds(found) > self.lapse_seconds

    def _read(self, found: ObjectInfo) -> Holder | None:
        try:
            return Holder(**json.loads(self.bucket.get(found.key)))
        except (ValueError, TypeError, NoObjectError):
            return None

    def _silent_seconds(self, found: ObjectInfo) -> float:
        """Return the age of a lease's last sign of life, by the storage's clock."""
        probe = f"{LEASES}/clock-{self._holder.host}-{self._holder.pid}"
        self.bucket.put(probe, b"")
        try:
            now = self.bucket.head(probe).modified
            return (now - self.bucket.head(found.key).modified).total_seconds()
        except NoObjectError:
            return float("inf")
        finally:
            self.bucket.delete(probe)

    def _newest_of(self, part: Part) -> int:
        numbers = (number_of(found.key) for found in self.bucket.list(self._folder(part)))
        return max((number for number in numbers if number is not None), default=0)

    def _folder(self, part: Part) -> str:
        return f"{LEASES}/{part.index}-of-{part.count}"

    def _key(self, number: int) -> str:
        return f"{self._folder(self.part)}/{number:08}.json"

    def _content(self) -> bytes:
        return json.dumps(asdict(self._holder)).encode()

    def _refusal(self, reason: str) -> OutputError:
        return OutputError(
            f"{self.bucket.url} has a driver: {reason}; let it end, or, if it is gone, "
            f"run the same command again in {self.lapse_seconds:.0f} s"
        )

    # ------------------------------------------------------------------ while it is held

    def _beat(self) -> None:
        alive_at = time.monotonic()
        while not self._ended.wait(self.beat_seconds):
            try:
                if self._newest_of(self.part) > self._number:
                    self._lost = "another driver has taken over"
                    return
                self._holder = replace(self._holder, beats=self._holder.beats + 1)
                self.bucket.put(self._key(self._number), self._content())
                alive_at = time.monotonic()
            except StorageError as error:
                if time.monotonic() - alive_at > self.lapse_seconds:
                    self._lost = f"no sign of life could be given for {self.lapse_seconds:.0f} s: {error}"
                    return

    def check(self) -> None:
        """Raise OutputError once another driver may go on in place of this one."""
        if self._lost:
            raise OutputError(f"this run of {self.bucket.url} stopped: {self._lost}; what is done is whole")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beating.join(timeout=self.beat_seconds)
        if not self._lost:
            with suppress(StorageError):
                self.bucket.delete(self._key(self._number))


def living_drivers(bucket: Bucket) -> list[Holder]:
    """Return the drivers that may be at work on an output. Writes nothing."""
    newest: dict[str, ObjectInfo] = {}
    for found in bucket.list(LEASES):
        folder = found.key.rpartition("/")[0]
        if number_of(found.key) is not None and (folder not in newest or found.key > newest[folder].key):
            newest[folder] = found
    lease = Lease(bucket)
    return [
        holder
        for found in newest.values()
        if (holder := lease._read(found)) and not holder.is_gone and _is_recent(found)
    ]


def _is_recent(found: ObjectInfo) -> bool:
    """Tell whether an object was written not long ago, by this machine's clock, which may be minutes off."""
    return time.time() - found.modified.timestamp() < 10 * LAPSE_SECONDS
