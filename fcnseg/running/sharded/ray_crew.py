"""The crew of a run on a Ray cluster: long-lived actors that take shards, and a driver that replaces those that die.

An actor holds one engine: one for every GPU, or one a node where processors work, pinned to its node. Ray carries
numbers of shards and counts, never an image. Ray's own retries are off, for they repeat work without knowing what is
done; here a shard goes back to the board when its worker dies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fcnseg.errors import EngineError, FcnsegError, StorageError
from fcnseg.io.locks import WaitNotice
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.resume import differences, places_of
from fcnseg.running.sharded.board import Board
from fcnseg.running.sharded.plan import PlanReader
from fcnseg.running.sharded.poison import PoisonSearch, Suspect
from fcnseg.running.sharded.ray_cluster import Slot, is_alive, joined, slots
from fcnseg.running.sharded.ray_worker import Progress, RayWorker
from fcnseg.running.sharded.record import RunRecord
from fcnseg.running.sharded.worker import OpenEngine, ShardResult, WorkerReport

WAIT_SECONDS = 0.5
"""The longest wait for the end of a shard before nodes and progress are looked at."""

LOOK_SECONDS = 2.0
"""The time between two looks at the nodes of the cluster."""

MOST_FAILED_STARTS = 3
"""The workers that may die in one slot before they have an engine, until the slot is given up."""

NODE_SECONDS = 6.0
"""The time that the cluster takes to know that a node is gone."""


@dataclass(eq=False)
class Hired:
    """A worker, and what it was asked for last: to start, to open an engine, a shard, or an image of a suspect."""

    slot: Slot
    actor: Any
    ref: Any
    report: WorkerReport | None = None
    shard: int | None = None
    suspect: Suspect | None = None
    is_opening: bool = False
    told: int = 0
    """The images of its shard that were told of as done."""
    progress: Any = None


class RayCrew:
    """The workers on a cluster, which is joined, or started on this machine, when it is made."""

    def __init__(self, options: RunOptions, hooks: Hooks, open_engine: OpenEngine) -> None:
        self._on_gpus = joined(options)
        if self._on_gpus and options.engine.device.startswith("cuda:"):  # a worker sees the one GPU that is its own
            options = replace(options, engine=replace(options.engine, device="cuda"))
        self.options, self.hooks, self._open_engine = options, hooks, open_engine
        self._members: list[Hired] = []
        self._failed_starts: dict[Slot, int] = {}
        self._closed_slots: set[Slot] = set()
        self._looked_at = 0.0
        self._room = WaitNotice()
        self._search = PoisonSearch()
        self._first_error: FcnsegError | None = None

    @property
    def size(self) -> int:
        """The number of workers that the cluster has room for now."""
        return max(1, len(slots(self._on_gpus)))

    # ------------------------------------------------------------------ hiring

    def _hire(self) -> None:
        """Ask for a worker in every slot that has none."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        taken = {member.slot for member in self._members} | self._closed_slots
        for slot in slots(self._on_gpus):
            if slot not in taken:
                self._members.append(self._hired(slot))
        waiting = [member for member in self._members if member.report is None and not member.is_opening]
        if len(waiting) == len(self._members) and self._room.is_due():
            needs = slots(self._on_gpus)[0].needs if slots(self._on_gpus) else "a node with processors"
            self.hooks.on_note(f"no node of the cluster has room for a worker ({needs}); waiting for it")

    def _hired(self, slot: Slot) -> Hired:
        actor = (
            ray.remote(RayWorker)
            .options(
                num_cpus=slot.cpus,
                num_gpus=slot.gpus,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=2,  # its progress is asked for while it works
                scheduling_strategy=NodeAffinitySchedulingStrategy(slot.node, soft=False),
            )
            .remote(self._open_engine)
        )
        return Hired(slot, actor, actor.progress.remote())

    def first(self) -> WorkerReport:
        """Return the report of the first worker whose engine is open; the others wait to hear of its choices."""
        while True:
            self._hire()
            opening = [member for member in self._members if member.is_opening]
            for member, value in self._ended(opening or self._members):
                if not member.is_opening:
                    self._open(member, self.options)
                    break
                if isinstance(value, WorkerReport):
                    member.report, member.is_opening = value, False
                    return value
                self._refuse(member, value)
            if self._first_error and not self._members:
                raise self._first_error

    def _open(self, member: Hired, options: RunOptions) -> None:
        member.is_opening = True
        member.ref = member.actor.open.remote(options)

    def _refuse(self, member: Hired, error: FcnsegError) -> None:
        """Dismiss a worker whose engine cannot be had, and ask for none in its place."""
        self._first_error = self._first_error or error
        self.hooks.on_note(f"no worker on {member.slot.host}: {error}")
        self._closed_slots.add(member.slot)
        self._dismiss(member)

    # ------------------------------------------------------------------ working

    def work(self, board: Board, record: RunRecord) -> None:
        """Bring the shards on the board to their ends, with as many workers as there are at any moment."""
        options = replace(self.options, engine=record.resolved(self.options.engine))
        try:
            while not board.is_stopped and (board.todo or self._search.suspects or self._is_busy):
                board.lease.check()
                self._hire()
                for member in self._members:
                    self._assign(member, board, options)
                self._tell_progress()
                for member, value in self._ended(self._members, board):
                    self._take(member, value, board, record)
                self._count(board)
                if not self._members and self._first_error and not slots(self._on_gpus, self._closed_slots):
                    raise self._first_error
        except KeyboardInterrupt:
            board.summary.interrupted = True

    @property
    def _is_busy(self) -> bool:
        return any(member.shard is not None or member.suspect for member in self._members)

    def _assign(self, member: Hired, board: Board, options: RunOptions) -> None:
        """Give an idle worker something to do."""
        if member.ref is not None:
            return
        if member.report is None:
            self._open(member, options)
        elif self._search.suspects:
            member.suspect = self._search.suspects.popleft()
            self._try_next(member, board)
        elif board.todo:
            number = member.shard = board.todo.popleft()
            member.told = 0
            member.ref = member.actor.run.remote(
                board.generation,
                number,
                next_number=board.todo[0] if board.todo else None,
                poisonous=self._search.poisonous.get(number, frozenset()),
                gently=number in self._search.innocent,
                max_failures=board.failures_left,
            )

    def _try_next(self, member: Hired, board: Board) -> None:
        """Have the next image of a suspect tried; a suspect of which all are outlived goes back to the board."""
        suspect = member.suspect
        assert suspect
        if suspect.index < suspect.images:
            member.ref = member.actor.try_image.remote(board.generation, suspect.number, suspect.index)
            return
        self._search.outlived(suspect)
        member.suspect = None
        board.todo.appendleft(suspect.number)

    def _take(self, member: Hired, value: Any, board: Board, record: RunRecord) -> None:
        """Take what a worker returned."""
        if member.suspect:
            if isinstance(value, FcnsegError):
                if not (isinstance(value, StorageError) and value.transient):
                    raise value
                self.hooks.on_note(f"an image of shard {member.suspect.number} is tried again: {value}")
            else:
                member.suspect.index += 1
            self._try_next(member, board)
        elif member.shard is not None:
            number, member.shard = member.shard, None
            if isinstance(value, ShardResult):
                self.hooks.on_progress(value.done - member.told)
                for failure in value.failures:
                    self.hooks.on_result(failure.key, failure)
                board.end(value)
            elif isinstance(value, StorageError):
                self.hooks.on_progress(-member.told)
                board.put_back(number, value)
            else:
                raise value
        elif member.is_opening:
            member.is_opening = False
            self._admit(member, value, record)

    def _admit(self, member: Hired, value: WorkerReport | FcnsegError, record: RunRecord) -> None:
        """Take a worker into the run if its engine gives the labels of the others'."""
        if not isinstance(value, WorkerReport):
            self._refuse(member, value)
            return
        places = places_of(self.options)
        agreed = {name: known for name, known in record.machine.items() if name not in places}
        changed = differences(record.settings, value.settings) or differences(agreed, value.environment)
        if changed and (self.options.resume != "continue" or differences(record.settings, value.settings)):
            remedy = "labels may differ where two classes tie; --accept-changed-environment admits it"
            self._refuse(member, EngineError(f"it has another environment: {changed}; {remedy}"))
            return
        member.report = value

    def _ended(self, members: list[Hired], board: Board | None = None) -> Iterator[tuple[Hired, Any]]:
        """Yield the workers whose last call ended, with its value, waiting a little; bury those that died."""
        refs = {member.ref: member for member in members if member.ref is not None}
        if not refs:
            time.sleep(WAIT_SECONDS / 5)
            return
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(refs), timeout=WAIT_SECONDS)
        for ref in ready:
            member = refs[ref]
            member.ref = None
            try:
                value = ray.get(ref)
            except RayTaskError:
                raise
            except RayError as error:
                self._bury(member, error, board)
            else:
                yield member, value

    # ------------------------------------------------------------------ losing workers

    def _bury(self, member: Hired, error: RayError, board: Board | None) -> None:
        """Go on without a worker that died; its shard goes back to the board, or its image is found guilty."""
        self._dismiss(member)
        node_is_gone = False
        if member.suspect or member.shard is not None:
            node_is_gone = not self._outlives(member.slot, patient=member.suspect is not None)
        reason = "its node is gone" if node_is_gone else _reason(error)
        if board is None or (member.shard is None and not member.suspect):
            self._failed_starts[member.slot] = self._failed_starts.get(member.slot, 0) + 1
            if self._failed_starts[member.slot] >= MOST_FAILED_STARTS:
                self._refuse(member, EngineError(f"{MOST_FAILED_STARTS} died before they had an engine: {reason}"))
            return
        board.lost += 1
        self.hooks.on_progress(-member.told)
        if member.suspect and node_is_gone:
            self._search.suspects.appendleft(member.suspect)
        elif member.suspect:
            key = self._key(member.suspect, board)
            self._search.found(member.suspect, key)
            self.hooks.on_note(f"a worker on {member.slot.host} died of {key} alone, which has failed: {reason}")
            board.todo.appendleft(member.suspect.number)
        elif member.shard is not None:
            again = node_is_gone or self._search.died(member.shard, board.generation.images_in(member.shard))
            how = "is begun again" if again else "is searched, image by image, for the one that ends its process"
            self.hooks.on_note(f"a worker on {member.slot.host} was lost ({reason}); shard {member.shard} {how}")
            if again:
                board.todo.appendleft(member.shard)
        self._count(board)

    def _key(self, suspect: Suspect, board: Board) -> str:
        planned = PlanReader(board.bucket, board.generation).shard(suspect.number)
        return planned[suspect.index].listed.key

    def _outlives(self, slot: Slot, *, patient: bool) -> bool:
        """Tell whether a node is still there after a worker on it died; it takes a while until the cluster knows."""
        deadline = time.monotonic() + (NODE_SECONDS if patient else 0.0)
        while is_alive(slot.node):
            if time.monotonic() >= deadline:
                return True
            time.sleep(WAIT_SECONDS)
        return False

    def _dismiss(self, member: Hired) -> None:
        with suppress(RayError):
            ray.kill(member.actor, no_restart=True)
        if member in self._members:
            self._members.remove(member)
        self._looked_at = 0.0

    # ------------------------------------------------------------------ telling

    def _tell_progress(self) -> None:
        """Ask the workers how far they are, and tell what they answered to the last question."""
        for member in self._members:
            if member.progress is not None:
                ready, _ = ray.wait([member.progress], timeout=0)
                if not ready:
                    continue
                with suppress(RayError):
                    self._tell(member, ray.get(ready[0]))
            working = member.shard is not None or member.is_opening
            member.progress = member.actor.progress.remote() if working else None

    def _tell(self, member: Hired, progress: Progress) -> None:
        for note in progress.notes:
            self.hooks.on_note(f"{member.slot.host}: {note}")
        if member.shard is not None and progress.shard == member.shard:
            self.hooks.on_progress(progress.done - member.told)
            member.told = progress.done

    def _count(self, board: Board) -> None:
        alive = sum(member.report is not None for member in self._members)
        if alive != board.workers:
            board.workers = alive
            board.tell()

    def close(self) -> None:
        """End all workers, and the cluster if it was started here."""
        for member in list(self._members):
            self._dismiss(member)
        ray.shutdown()


def _reason(error: RayError) -> str:
    """Return why an actor died, as far as Ray says so, in a few words."""
    text = " ".join(str(error).split())
    if "out of memory" in text.lower() or "oom" in text.lower().split():
        return "out of memory"
    return "its process ended" if "process" in text or "died" in text else f"{type(error).__name__}: {text[:120]}"
