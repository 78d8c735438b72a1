"""What happens at the edges of a run: errors in JSON, earlier failures, interruptions, room."""

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from fcnseg.running import pipeline
from fcnseg.running import run as run_module
from fcnseg.types import EngineInfo
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
