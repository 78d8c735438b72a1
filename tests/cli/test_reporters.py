import re

import pytest

from fcnseg.cli import console
from fcnseg.cli.live import LiveReporter
from fcnseg.cli.reporters import FAILURES_SHOWN, PlainReporter
from fcnseg.cli.wording import duration
from fcnseg.engine.options import BuildHooks
from fcnseg.running.hooks import ShardsState
from fcnseg.types import EngineInfo, Failure

INFO = EngineInfo("torch", "cpu", "fp32", "tiny", "0" * 64, {}, ("color",), {})


def test_failures_of_earlier_runs_are_counted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    console.err.cache_clear()
    reporter = PlainReporter(BuildHooks())
    reporter.on_start(100, INFO)
    for i in range(50):
        reporter.hooks().on_failed_before(Failure(f"old{i}", "load", "bad"))
    assert (reporter.remaining_seconds, reporter.ended, reporter.failed) == (None, 50, 0)
    for i in range(30):
        reporter.hooks().on_result(f"new{i}", Failure(f"new{i}", "load", "bad"))
    said = capsys.readouterr().err
    assert (said.count("failed: old"), said.count("failed: new")) == (FAILURES_SHOWN, FAILURES_SHOWN)
    assert "80 of 100 images" in reporter.progress()
    console.err.cache_clear()


def test_shards_and_images_of_other_processes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    console.err.cache_clear()
    reporter = PlainReporter(BuildHooks())
    hooks = reporter.hooks()
    hooks.on_start(100, INFO)
    hooks.on_earlier(10, 2)
    for images in (30, -5):  # a worker was lost
        hooks.on_progress(images)
    hooks.on_shards(ShardsState(3, 10, 1, 1))
    assert reporter.ended == 37
    assert re.search("37 of 100 images, .*3 of 10 shards by 1 worker, 1 lost", reporter.progress())
    live = LiveReporter(BuildHooks(), lambda: None)
    live.hooks().on_shards(ShardsState(4, 10, 2))
    with console.err().capture() as shown:
        console.err().print(live.render())
    assert "4 of 10 shards by 2 workers" in shown.get()
    capsys.readouterr()
    console.err.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (275_000, "3 days 4 h")],
)
def test_durations_have_one_or_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
