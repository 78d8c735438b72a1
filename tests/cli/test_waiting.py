"""A run that another one keeps waiting says for whom; `status` waits for nobody."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fcnseg.io import locks
from fcnseg.running.ledger import SqliteLedger
from tests.conftest import Outcome, TinyModel, photograph

CLAIM = """
import sys, time
from pathlib import Path
from fcnseg.running.ledger import SqliteLedger
out = Path(sys.argv[1])
with SqliteLedger(out / ".fcnseg/ledger.sqlite", out) as ledger, ledger.new_claimant() as name:
    ledger.claim(["1.png", "2.png"], name, {})
    print("claimed", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(4):
        photograph(tmp_path / "photos" / f"{i}.png", seed=i)
    return tmp_path / "photos"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed two images and was stopped then."""
    (tmp_path / "masks/.fcnseg").mkdir(parents=True)
    command = [sys.executable, "-c", CLAIM, str(tmp_path / "masks")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "claimed\n"
        os.kill(process.pid, signal.SIGSTOP)
        yield process
        process.kill()


def after_describe(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Let something happen as soon as the holder of a claim has been described."""
    describe = SqliteLedger.describe

    def describe_and_act(self: SqliteLedger, claimant: str) -> str:
        described = describe(self, claimant)
        act()
        return described

    monkeypatch.setattr(SqliteLedger, "describe", describe_and_act)


def test_a_stopped_process_is_named_with_what_it_holds(
    fcnseg: Callable[..., Outcome],
    tiny: TinyModel,
    photos: Path,
    tmp_path: Path,
    other: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "SAY_AFTER_SECONDS", 0.5)
    started = time.monotonic()
    state = fcnseg("status", tmp_path / "masks")
    assert time.monotonic() - started < 10
    assert "a run is at work" in state.out
    assert "did not end" not in state.out
    after_describe(monkeypatch, other.kill)
    done = fcnseg("run", photos, "--out", tmp_path / "masks", *tiny.arguments)
    assert done.code == 0, done.err
    assert f"waiting for 1.png, 2.png, claimed by process {other.pid} on this host since 20" in done.err
    assert f"stopped; `kill -CONT {other.pid}` lets it go on, `kill -KILL {other.pid}` ends it" in done.err
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    state = fcnseg("status", tmp_path / "masks", "--json")
    assert (state.code, json.loads(state.out)["parts"][0]["at_work"]) == (0, False)


def test_starting_over_names_the_process_in_the_way(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, photos: Path, tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    done = fcnseg("run", photos, "--out", tmp_path / "masks", *tiny.arguments, "--overwrite")
    assert (done.code, f"process {other.pid} on this host" in done.error_line) == (2, True)
    assert f"kill -KILL {other.pid}" in done.error_line


def test_moved_inputs_are_gone_on_with(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    run = ["--out", tmp_path / "masks", *tiny.arguments]
    assert fcnseg("run", photos, *run).code == 0
    moved = photos.rename(tmp_path / "moved")
    photograph(moved / "new.png")
    done = fcnseg("run", moved, *run)
    assert (done.code, "1 label map" in done.err, "4 were there already" in done.err) == (0, True, True)
    assert f"going on although source was {photos}, is {moved}" in done.err
    assert "going on" not in fcnseg("run", moved, *run).err


def test_other_inputs_than_the_recorded_ones_are_told_as_such(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    run = ["--out", tmp_path / "masks", *tiny.arguments]
    assert fcnseg("run", photos, *run).code == 0
    copy = shutil.copytree(photos, tmp_path / "copy")  # with its times, but the other is still there
    refused = fcnseg("run", copy, *run)
    assert (refused.code, f"source was {photos}, is {copy}" in refused.error_line) == (2, True)
    assert "labels do not depend on where images lie" in refused.error_line
    assert "tie" not in refused.error_line
    shutil.rmtree(photos)
    changed = photograph(copy / "2.png", width=55, seed=9)
    assert fcnseg("run", copy, *run, "--dry-run").code == fcnseg("run", copy, *run).code == 2  # one is another
    changed.unlink()
    other = photograph(tmp_path / "one.png", seed=9)
    assert fcnseg("run", other, *run).code == 2  # none is the same
    assert "3 were there already" in fcnseg("run", copy, *run).err
    assert "1 label map" in fcnseg("run", other, *run, "--continue").err


def test_a_lock_that_outlived_its_host_is_named(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `flock` is missing a lock is a file, which stays when its pod is gone."""

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    masks = tmp_path / "masks"
    (masks / ".fcnseg").mkdir(parents=True)
    with SqliteLedger(masks / ".fcnseg/ledger.sqlite", masks) as ledger:
        ledger.claim(["1.png"], "gone-0", {})
    lock = masks / ".fcnseg/gone-0.lock"
    lock.write_text("123\nold-pod\n")
    monkeypatch.setattr(fcntl, "flock", missing)
    monkeypatch.setattr(locks, "SAY_AFTER_SECONDS", 0.5)
    started = time.monotonic()
    state = fcnseg("status", masks)
    assert (time.monotonic() - started < 10, "a run is at work" in state.out) == (True, True)
    after_describe(monkeypatch, lock.unlink)
    done = fcnseg("run", photos, "--out", masks, *tiny.arguments)
    assert done.code == 0, done.err
    assert "waiting for 1.png, claimed by process 123 on old-pod since 20" in done.err
    assert f"if it is gone with its host, remove {lock}" in done.err
