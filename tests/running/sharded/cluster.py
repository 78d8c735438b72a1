"""A Ray cluster on loopback, drivers in processes of their own, and ways to kill any of it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.imports import ROOT

Event = dict[str, Any]
PATIENCE_SECONDS = 180


@dataclass
class ClusterUnderTest:
    """A head without processors, and nodes of one each."""

    cluster: Any
    nodes: list[Any] = field(default_factory=list)
    kills: int = 0

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def want(self, count: int) -> None:
        """Bring the number of nodes to that."""
        while len(self.nodes) < count:
            self.nodes.append(patiently(lambda: self.cluster.add_node(num_cpus=1, object_store_memory=80 << 20)))
        while len(self.nodes) > count:
            self.cluster.remove_node(self.nodes.pop())

    def kill_node(self) -> None:
        """Kill a raylet; its workers die with it."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.kills += 1

    def kill_worker(self) -> None:
        """Kill the process of a worker, when there is one."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (workers := self.workers()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with suppress(psutil.NoSuchProcess):
            workers[0].kill()
            self.kills += 1

    @staticmethod
    def workers() -> list[psutil.Process]:
        """The processes of workers, of any driver of this cluster."""
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if (process.info["cmdline"] or [""])[0].startswith("ray::RayWorker")
        ]


@contextmanager
def started_cluster() -> Iterator[ClusterUnderTest]:
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT.parent), os.environ.get("PYTHONPATH"))))
    cluster = Cluster()
    patiently(lambda: cluster.add_node(num_cpus=0, object_store_memory=80 << 20))
    try:
        yield ClusterUnderTest(cluster)
    finally:
        cluster.shutdown()


def patiently(start: Callable[[], Any]) -> Any:
    """Start a daemon of Ray, which gives up after 30 s on a machine that is busy, up to three times."""
    for _ in range(2):
        with suppress(Exception):
            return start()
    return start()


class Driver:
    """A driver at work. `events` are those it has told of until now."""

    def __init__(self, **options: Any) -> None:
        command = [sys.executable, "-m", "tests.running.sharded.ray_driver", json.dumps(options)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT.parent
        )
        self.events: list[Event] = []
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._errors: list[str] = []
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._queue.put(json.loads(line) if line.startswith("{") else {"event": "stray", "text": line})
        self._queue.put({"event": "gone"})

    def _read_errors(self) -> None:
        assert self.process.stderr
        self._errors += self.process.stderr

    def until(self, true: Callable[[Event], bool]) -> Event:
        """Wait for an event."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            event = self._queue.get(timeout=max(0.1, deadline - time.monotonic()))
            self.events.append(event)
            if true(event):
                return event
            assert event["event"] != "gone", (self.events[-8:], self._errors[-20:])

    def until_done(self, shards: int) -> None:
        """Wait until so many shards are done."""
        self.until(lambda event: event["event"] == "shards" and event["done"] >= shards)

    def end(self) -> Event:
        """Wait for the summary."""
        event = self.until(lambda event: event["event"] in ("end", "error"))
        self.process.wait(PATIENCE_SECONDS)
        return event

    @property
    def notes(self) -> list[str]:
        return [event["text"] for event in self.events if event["event"] == "note"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
