"""What happens at the edges of a run: errors in JSON, earlier failures, interruptions, room."""

import json
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from fcnseg.cli import console
from fcnseg.cli.reporters import FAILURES_SHOWN, PlainReporter
from fcnseg.engine.options import BuildHooks
from fcnseg.running import pipeline
from fcnseg.running import run as run_module
from fcnseg.running.dry_run import Estimate
from fcnseg.types import EngineInfo, Failure
from tests.conftest import Outcome, TinyModel, photograph

Command = Callable[..., Outcome]
INFO = EngineInfo("torch", "cpu", "fp32", "tiny", "0" * 64, {}, ("color",), {})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(3):
        photograph(tmp_path / f"photos/{i}.png", seed=i)
    return tmp_path / "photos"


@pytest.fixture
def run(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> Command:
    return lambda *arguments: fcnseg("run", photos, "--out", tmp_path / "masks", *tiny.arguments, *arguments)


def test_options_that_would_do_nothing_are_refused(run: Command) -> None:
    done = run("--probabilities-dtype", "float16")
    assert (done.code, "--save-probabilities" in done.error_line) == (2, True)
    done = run("--dry-run", "--json-logs")
    assert (done.code, "--json" in json.loads(done.err)["text"]) == (2, True)


def test_errors_are_json_where_logs_are(fcnseg: Command, run: Command, tmp_path: Path) -> None:
    cases = [(run("--json-logs", "--tile", "small"), 2), (run("--json-logs", "--nonsense"), 2)]
    cases.append((fcnseg("run", tmp_path / "absent", "--out", tmp_path / "m", "--json-logs"), 1))
    (tmp_path / "run.toml").write_text("json-logs = true\n")
    cases.append((run("--config", tmp_path / "run.toml", "--tile", "small"), 2))
    for done, code in cases:
        (event,) = (json.loads(line) for line in done.err.splitlines())
        assert (done.code, event["event"], event["exit_code"]) == (code, "error", code)
        assert event["text"]
    assert run("--tile", "small").error_line.startswith("fcnseg: error: ")


def test_names_are_shown_as_they_are(run: Command, photos: Path) -> None:
    (photos / ":car:.jpg").touch()
    assert "failed: :car:.jpg: " in run().err


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


def test_an_earlier_failure_is_marked_in_the_logs(run: Command, photos: Path) -> None:
    (photos / "bad.png").touch()
    found = []
    for _ in range(2):
        done = run("--json-logs")
        assert done.code == 3
        found += [event for line in done.err.splitlines() if (event := json.loads(line))["event"] == "failed"]
    assert [event.get("earlier") for event in found] == [None, True]


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interruption_before_the_engine_is_one_line(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "survey_inputs", interrupted)
    done = run()
    assert (done.code, done.err) == (130, "fcnseg: interrupted: the same command starts again\n")
    done = run("--json-logs")
    (event,) = (json.loads(line) for line in done.err.splitlines())
    assert (done.code, event["event"], event["exit_code"], event["interrupted"]) == (130, "end", 130, True)


def test_an_interruption_after_the_start_says_nothing_of_the_engine(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "finish", interrupted)
    for arguments in ([], ["-q"]):
        done = run(*arguments)
        assert done.code == 130
        assert done.err.splitlines()[-1].startswith("fcnseg: interrupted: what is written is whole")
        assert done.err.count("interrupted") == 1


def test_a_dry_run_that_is_interrupted_estimates_nothing(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline._Stages, "_predict", interrupted)
    done = run("--dry-run", "--json", "-q")
    assert (done.code, done.out, done.err) == (130, "", "fcnseg: interrupted: nothing is written\n")


def test_outputs_of_one_file_system_share_its_room() -> None:
    found = Estimate(1, 1, {}, bytes_written={"labels": 60, "probabilities": 30, "overlay": 60})
    found.bytes_needed = {"labels": 60, "probabilities": 60, "overlay": 60}
    found.free_bytes = dict.fromkeys(found.bytes_needed, 100)
    found.file_systems = {"labels": 1, "probabilities": 1, "overlay": 2}
    assert found.too_large == ["labels", "probabilities"]


def test_an_hdf5_file_needs_room_twice(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--dry-run", "--save-probabilities", tmp_path / "probs.h5"]
    values = json.loads(run(*arguments, "--json", "-q").out)
    assert values["sampled"] == 3
    written, needed = values["bytes_written"], values["bytes_needed"]
    assert (needed["labels"], needed["probabilities"]) == (written["labels"], 2 * written["probabilities"])
    usage = namedtuple("usage", "total used free")
    room = written["labels"] + written["probabilities"] + 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(room, 0, room))
    done = run(*arguments)
    assert (done.code, "NOT ENOUGH" in done.out, "as much again" in done.out) == (1, True, True)


HELD = """
import os, signal, sys, threading
sys.path.insert(0, {folder!r})
threading.Thread(target=threading.Event().wait, daemon=True).start()
from fcnseg.engine.runtimes.openvino import _library
try:
    _library()
except KeyboardInterrupt:
    print("loaded" if sys.modules["openvino"].whole else "broken")
"""


def test_ctrl_c_waits_for_the_import_of_openvino(tmp_path: Path) -> None:
    module = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\nwhole = True\n"
    (tmp_path / "openvino.py").write_text(module)
    done = subprocess.run(
        [sys.executable, "-c", HELD.format(folder=str(tmp_path))], capture_output=True, text=True, check=True
    )
    assert done.stdout == "loaded\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_whose_outputs_cannot_have_room_is_refused(
    run: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = 1_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, free))
    photograph(photos / "large.png", 400, 300)  # 5 classes of float16: 1.2 MB, the others 12 kB each
    probabilities = ["--save-probabilities", tmp_path / "probs"]
    done = run(*probabilities)
    assert (done.code, "4 images will take about 1.24 MB in" in done.err, "where 1e+06 B" in done.err) == (
        0,
        True,
        False,
    )
    free = 40_000
    assert "images will take" not in run(*probabilities).err  # they are there
    other = ["--save-probabilities", tmp_path / "more", "--out", tmp_path / "other"]
    refused = run(*other)
    assert (refused.code, "--no-space-check" in refused.error_line, "48.3 kB" in refused.error_line) == (1, True, True)
    assert not (tmp_path / "other").exists()
    assert run(*other, "--no-space-check").code == 0
