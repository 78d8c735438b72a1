import pytest

from fcnseg.cli import console
from fcnseg.cli.reporters import FAILURES_SHOWN, PlainReporter
from fcnseg.cli.wording import duration
from fcnseg.engine.options import BuildHooks
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (275_000, "3 days 4 h")],
)
def test_durations_have_one_or_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
