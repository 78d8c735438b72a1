"""Progress where there is no terminal: lines now and then, events, and a line a step with -v."""

from __future__ import annotations

import json
import time

import pytest

from fcnseg.cli import console, progress
from fcnseg.cli.progress import build_display, busy, bytes_progress, counted_progress


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.Errors, "as_json", False)
    console.err.cache_clear()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line comes with the first update, and no thread prints others."""
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "startable_threads", lambda count: 0)


@pytest.mark.usefixtures("at_once")
def test_lines_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with counted_progress("scoring", quiet=False) as update:
        for done in range(1, 1000):
            update(done, 4000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1  # the next would come after ten seconds
    assert lines[0].startswith("scoring: 1 of 4,000, ")


def test_a_step_that_says_nothing_is_shown_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.01)
    with busy("exporting"):
        deadline = time.monotonic() + 10
        err = ""
        while not err and time.monotonic() < deadline:
            err = capsys.readouterr().err
    assert err == "exporting: 0 s\n"


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with counted_progress("scoring", quiet=False) as update:
        update(1, 1)
    with busy("exporting"), bytes_progress("voc-fcn8s") as on_bytes:
        on_bytes(5, 10)
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.0)
    with counted_progress("scoring", quiet=True, verbose=1) as update, build_display(quiet=True) as build:
        update(1, 10)
        build.on_progress("compiling", 0.5)
        build.on_note("building")
    assert capsys.readouterr().err == ""


def test_verbose_times_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    with build_display(quiet=False, verbose=1) as build:
        for phase in ("exporting the graph", "compiling", "compiling", "verifying"):
            build.on_progress(phase, 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" s  ")[2] for line in lines] == ["exporting the graph", "compiling", "verifying"]


@pytest.mark.usefixtures("at_once")
def test_bytes_are_shown_in_mebibytes(capsys: pytest.CaptureFixture[str]) -> None:
    with bytes_progress("voc-fcn8s") as on_bytes:
        on_bytes(3 << 20, 513 << 20)
    assert capsys.readouterr().err.startswith("voc-fcn8s: 3 of 513 MiB, ")


def test_events_are_at_most_one_a_second_and_a_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.Errors, "as_json", True)
    with counted_progress("starting", quiet=False) as update, build_display(quiet=False) as build:
        for done in range(100):
            update(done, 100, "round 1")
        build.on_progress("compiling", 0.25)
        build.on_note("building street-fcn8s")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    kinds = [(event["event"], event.get("phase")) for event in events]
    assert kinds == [("progress", "round 1"), ("building", "compiling"), ("note", None)]
    assert (events[0]["done"], events[0]["total"], events[1]["fraction"]) == (0, 100, 0.25)
