"""Engines as users get them: built by a subprocess, cached, found again, and nothing left behind by what fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcnseg.engine import build, cache
from fcnseg.engine.build import build_engine, ensure_engine, fastest_engine
from fcnseg.engine.options import BuildHooks
from fcnseg.engine.record import read_record, read_trusted_record
from fcnseg.engine.request import EngineRequest
from fcnseg.errors import EngineError, OutputError
from fcnseg.io.atomic import PART
from fcnseg.recipes import load_recipe
from tests.conftest import TinyModel, mounted
from tests.engine.tiny_engines import SMALL, keep, request_for, unfinished, wait_for


def test_a_first_use_builds_and_a_second_finds(coarse: TinyModel, own_home: Path) -> None:
    notes: list[str] = []
    phases: list[str] = []
    hooks = BuildHooks(notes.append, lambda phase, fraction: phases.append(phase))
    file = ensure_engine(request_for(coarse), hooks)
    assert notes == [f"building {load_recipe(coarse.recipe).name} for openvino, fp32: first use"]
    assert {"writing the graph", "compiling", "verifying"} <= set(phases)
    record = read_record(file)
    assert record.verification
    assert record.verification.passed
    assert [str(c) for c in record.verification.cases] == [
        f"{w} x {h}, batch 1" for h, w in [(1, 1), (60, 80), (70, 90)]
    ]
    assert not unfinished(own_home)
    notes.clear()
    assert ensure_engine(request_for(coarse), hooks) == file
    anywhere = replace(request_for(coarse), shapes=())
    assert ensure_engine(anywhere, hooks) == file, "an engine for other sizes will do where none are asked for"
    assert notes == []


@pytest.mark.usefixtures("own_home")
def test_auto_takes_the_fastest_that_gives_the_networks_labels(coarse: TinyModel) -> None:
    seconds = {"fp32": 0.2, "bf16": 0.1, "int8": 0.05}
    for precision in ("fp32", "bf16"):
        identity = request_for(coarse, precision).identity
        keep(identity, seconds[precision])
    file = fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks())
    assert read_record(file).identity.precision == "bf16"
    cache.remove(file)
    keep(identity, 0.1, passed=False)
    file = fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks())
    assert read_record(file).identity.precision == "fp32"
    with pytest.raises(EngineError, match=r"earlier build .* did not give the network's labels"):
        ensure_engine(request_for(coarse, "bf16"), BuildHooks())


@pytest.mark.usefixtures("own_home")
def test_auto_compares_speeds_a_pixel(coarse: TinyModel) -> None:
    large = replace(SMALL[0], typical=(600, 800), largest=(600, 800))
    for precision, shapes, seconds in (("fp32", SMALL, 0.1), ("bf16", (large,), 1.0)):
        request = replace(request_for(coarse, precision), shapes=shapes)
        keep(request.identity, seconds)
    file = fastest_engine(replace(request_for(coarse), shapes=()), ["bf16", "fp32"], BuildHooks())
    assert read_record(file).identity.precision == "bf16"


class FakeBuilder:
    """Stands in for the other process: keeps a record for precisions without a reason, and counts its jobs."""

    def __init__(self, tiny: TinyModel, reasons: dict[str, str], dies_at: str = "") -> None:
        self.tiny, self.reasons, self.dies_at, self.jobs = tiny, reasons, dies_at, []  # type: ignore[var-annotated]
        self.lasting = True

    def __call__(self, module: str, job: dict[str, Any], on_message: Any) -> str:
        assert module == "fcnseg.engine.builder"
        precisions = [request["precision"] for request in job["requests"]]
        self.jobs.append(precisions)
        for precision in precisions:
            if precision == self.dies_at:
                return "it ran out of memory"
            reason = self.reasons.get(precision, "")
            if not reason:
                keep(request_for(self.tiny, precision).identity, 0.1, min_agreement=0.9999)
            on_message({"precision": precision, "outcome": reason, "lasting": bool(reason) and self.lasting})
        return ""


@pytest.mark.usefixtures("own_home")
def test_auto_says_what_it_cannot_build_and_does_not_try_it_again(
    coarse: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = FakeBuilder(coarse, {"bf16": "no such layer"})
    monkeypatch.setattr(build, "run_job", builder)
    notes: list[str] = []
    hooks = BuildHooks(notes.append)
    for _ in range(2):
        file = fastest_engine(request_for(coarse), ["bf16", "fp32"], hooks)
        assert read_record(file).identity.precision == "fp32"
    assert len(notes) == 2
    assert notes[1].startswith("bf16 is left out: no such layer")
    assert builder.jobs == [["bf16", "fp32"]]
    assert [(model, engine, reason) for model, engine, reason in cache.recorded_failures()] == [
        (load_recipe(coarse.recipe).name, "openvino-bf16", "no such layer")
    ]
    builder.reasons = {}
    fastest_engine(request_for(coarse), ["bf16", "fp32"], hooks, force=True)
    assert builder.jobs[-1] == ["bf16", "fp32"]


@pytest.mark.usefixtures("own_home")
def test_the_death_of_a_builder_is_not_remembered(coarse: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = FakeBuilder(coarse, {}, dies_at="bf16")
    monkeypatch.setattr(build, "run_job", builder)
    notes: list[str] = []
    file = fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks(notes.append))
    assert read_record(file).identity.precision == "fp32"
    assert notes[1].startswith("bf16 is left out: the process that builds the engine died: it ran out of memory")
    assert builder.jobs == [["bf16", "fp32"], ["fp32"]]
    assert not cache.recorded_failures()
    builder.dies_at = ""
    fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks())
    assert builder.jobs[-1] == ["bf16"]


@pytest.mark.usefixtures("own_home")
def test_without_any_engine_the_death_of_its_builder_is_the_reason(
    coarse: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "run_job", FakeBuilder(coarse, {}, dies_at="fp32"))
    with pytest.raises(EngineError, match=r"fp32: the process that builds the engine died: it ran out of memory"):
        fastest_engine(request_for(coarse), ["fp32"], BuildHooks())


@pytest.mark.usefixtures("own_home")
def test_what_may_be_otherwise_next_time_is_not_remembered(coarse: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = FakeBuilder(coarse, {"fp32": "OpenVINO cannot compile graph.onnx: std::bad_alloc"})
    builder.lasting = False
    monkeypatch.setattr(build, "run_job", builder)
    for _ in range(2):
        with pytest.raises(EngineError, match="bad_alloc"):
            fastest_engine(request_for(coarse), ["fp32"], BuildHooks())
    assert len(builder.jobs) == 2
    assert not cache.recorded_failures()


@pytest.mark.usefixtures("own_home")
def test_auto_without_any_engine_gives_every_reason(coarse: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = FakeBuilder(coarse, {"bf16": "no such layer", "fp32": "no such type"})
    monkeypatch.setattr(build, "run_job", builder)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"bf16: no such layer; fp32: no such type.*--force"):
            fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks())
    assert len(builder.jobs) == 1
    assert len(cache.strays()) == 2
    for stray in cache.strays():
        cache.remove(stray)
    assert not cache.strays()


def test_an_engine_is_built_for_the_models_sizes_unless_others_are_asked_for(
    coarse: TinyModel, monkeypatch: pytest.MonkeyPatch, built: Path
) -> None:
    requests: list[EngineRequest] = []
    monkeypatch.setattr(build, "ensure_engine", lambda request, *_, **__: requests.append(request) or built)
    build_engine(str(coarse.recipe), weights=coarse.weights, precision="fp32")
    assert requests[0].shapes == (load_recipe(coarse.recipe).shapes,)


def test_the_fastest_engine_can_be_put_anywhere(
    coarse: TinyModel, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "fastest_engine", lambda *_, **__: built)
    file, record = build_engine(str(coarse.recipe), weights=coarse.weights, out=tmp_path / "new" / "my.engine")
    assert (file, record.file) == (tmp_path / "new" / "my.engine", "my.engine")
    assert read_trusted_record(file).file_sha256 == read_record(built).file_sha256


def command(tiny: TinyModel, *more: object) -> list[str]:
    sizes = ["--min-shape", "1x1", "--opt-shape", "80x60", "--max-shape", "90x70", "--max-batch", "2"]
    return [sys.executable, "-m", "fcnseg", "build-engine", str(tiny.recipe), "--weights", str(tiny.weights),
            "--precision", "fp32", *sizes, *map(str, more)]  # fmt: skip


def start(tiny: TinyModel, *more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(tiny, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture
def builders() -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that are ended with the test."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_two_at_once_build_once(coarse: TinyModel, builders: list[subprocess.Popen[str]], own_home: Path) -> None:
    builders += [start(coarse), start(coarse)]
    said = [p.communicate(timeout=300) for p in builders]
    assert [p.returncode for p in builders] == [0, 0], said
    assert sum("building tiny" in err for _, err in said) == 1
    assert len({out for out, _ in said}) == 1
    assert not unfinished(own_home)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL])
def test_an_ended_build_leaves_nothing_that_is_used(
    coarse: TinyModel, builders: list[subprocess.Popen[str]], own_home: Path, ending: signal.Signals
) -> None:
    builders.append(start(coarse))
    wait_for(lambda: list(own_home.rglob(f"{PART}*")))  # the builder has begun
    wait_for(lambda: children_of(builders[0]))
    children = children_of(builders[0])
    os.kill(builders[0].pid, ending)
    _, err = builders[0].communicate(timeout=120)
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and alive(pid) for pid in children))
    assert not list(own_home.rglob(f"*{cache.SUFFIX}"))
    if ending != signal.SIGKILL:
        assert builders[0].returncode == 130
        assert "Traceback" not in err
        assert "nothing of it is left" in err
        assert not unfinished(own_home)
    else:
        assert not cache.strays()
        assert not list(own_home.rglob(f"{PART}*"))


def children_of(process: subprocess.Popen[str]) -> list[str]:
    return subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()


def alive(pid: str) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_a_builder_that_dies_is_one_line(
    coarse: TinyModel, own_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nread job\necho 'terminate called' >&2\nkill -9 $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(EngineError, match="died: it ran out of memory") as caught:
        ensure_engine(request_for(coarse), BuildHooks())
    assert "\n" not in str(caught.value)
    assert not unfinished(own_home)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(
    coarse: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "small", "size=100k") as small:
        monkeypatch.setenv("FCNSEG_HOME", str(small))
        with pytest.raises(OutputError, match="No space left") as caught:
            ensure_engine(request_for(coarse), BuildHooks())
        assert "\n" not in str(caught.value)
        assert not unfinished(small)


def test_a_cache_that_may_not_be_written(coarse: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "locked", "ro") as locked:
        monkeypatch.setenv("FCNSEG_HOME", str(locked))
        with pytest.raises(OutputError, match="Read-only file system; set FCNSEG_HOME"):
            ensure_engine(request_for(coarse), BuildHooks())
