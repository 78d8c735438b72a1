import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from fcnseg.errors import OutputError
from fcnseg.io.buckets import open_store
from fcnseg.io.parts import Part
from fcnseg.running.sharded.lease import Lease, living_drivers
from tests.running.sharded.conftest import Place

QUICK = {"beat_seconds": 0.05, "lapse_seconds": 0.5}


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_driver_is_refused_until_the_first_ends(place: Place) -> None:
    with Lease(place.bucket) as first:
        with pytest.raises(OutputError, match="has a driver: process"), Lease(place.bucket):
            pass
        assert [str(holder) for holder in living_drivers(place.bucket)] == [str(first._holder)]
        first.check()
    assert living_drivers(place.bucket) == []
    with Lease(place.bucket):
        pass
    assert not list(place.bucket.list())


def test_parts_of_as_many_do_not_exclude_each_other(tmp_path: Path) -> None:
    bucket = open_store(tmp_path)
    with Lease(bucket, Part(0, 2)), Lease(bucket, Part(1, 2)):
        for other in (Part(0, 1), Part(0, 2), Part(2, 3)):
            with pytest.raises(OutputError, match="has a driver"), Lease(bucket, other):
                pass


HOLDER = """
import sys, time
from fcnseg.io.buckets import open_store
from fcnseg.running.sharded.lease import Lease
with Lease(open_store(sys.argv[1]), beat_seconds=0.05):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lease_of_a_process_that_died_here_is_taken_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(OutputError), Lease(open_store(tmp_path)):
            pass
        other.kill()
    with Lease(open_store(tmp_path)):
        pass


def elsewhere(lease: Lease) -> None:
    """Let a lease seem to be one of another host."""
    lease._holder = type(lease._holder)("elsewhere", "boot", 1, 0.0)


def test_a_silent_driver_elsewhere_is_replaced_and_stops_when_it_wakes(place: Place) -> None:
    bucket = place.bucket
    silent = Lease(bucket, **QUICK)
    elsewhere(silent)
    beats = silent.bucket
    with silent:
        silent.bucket = _Muted()  # type: ignore[assignment]  # it sleeps: no sign of life is written
        told: list[str] = []
        with ExitStack() as stack:
            second = Lease(bucket, on_wait=told.append, **{**QUICK, "lapse_seconds": 2.0})
            wait_until(lambda: _entered(stack, second))
            assert second._number == silent._number + 1
            assert "this run takes over if it stays so" in told[0]
            silent.bucket = beats
            wait_until(lambda: bool(silent._lost))
            with pytest.raises(OutputError, match="another driver has taken over"):
                silent.check()
            second.check()


def _entered(stack: ExitStack, lease: Lease) -> bool:
    """Try to get a lease; while the other was alive just now, it is refused."""
    with suppress(OutputError):
        stack.enter_context(lease)
        return True
    return False


class _Muted:
    """A bucket that forgets what is put, and shows nothing."""

    url = "muted"

    def put(self, key: str, content: bytes) -> None: ...

    def list(self, _: str) -> list[object]:
        return []


def test_a_driver_that_cannot_reach_the_storage_stops(tmp_path: Path) -> None:
    from fcnseg.errors import StorageBusyError

    class Gone(_Muted):
        def list(self, _: str) -> list[object]:
            raise StorageBusyError("no answer")

    bucket = open_store(tmp_path)
    with Lease(bucket, **QUICK) as lease:
        lease.bucket = Gone()  # type: ignore[assignment]
        wait_until(lambda: bool(lease._lost))
        with pytest.raises(OutputError, match="no sign of life"):
            lease.check()
