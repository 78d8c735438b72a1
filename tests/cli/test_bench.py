import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fcnseg.engine import bench, machine
from fcnseg.engine.bench import BenchOptions, BenchResult, Figures, Row
from fcnseg.engine.bench_session import Candidate, Workload, open_candidate
from fcnseg.errors import SettingsError
from tests.conftest import Outcome, TinyModel, make_tiny, photograph

Command = Callable[..., Outcome]


def model(tiny: TinyModel) -> list[str]:
    return ["--model", str(tiny.recipe), "--weights", str(tiny.weights)]


FIGURES = Figures(12.5, 0.08, 0.1, 2.0, 2**30, 0.5, 2.5, 0.999, 120.0, 0.4)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Candidate], Workload, BenchOptions]]:
    """Stands in for the measurement; holds what it was asked for."""
    calls: list[tuple[list[Candidate], Workload, BenchOptions]] = []

    def measured(candidates: list[Candidate], workload: Workload, options: BenchOptions, *_: object) -> BenchResult:
        calls.append((candidates, workload, options))
        rows = [Row(c.backend, c.precision, "cpu", None, FIGURES) for c in candidates]
        return BenchResult("m", {"40 x 30": 2}, options, 9.6, {"fp32": 300.0}, str(candidates[0]), tuple(rows), None)

    monkeypatch.setattr(bench, "bench", measured)
    return calls


def test_a_folder_is_measured_end_to_end(fcnseg: Command, tiny: TinyModel, tmp_path: Path) -> None:
    for i in range(5):
        photograph(tmp_path / "photos" / f"{i}.jpg", seed=i)
    (tmp_path / "photos" / "9.png").write_bytes(b"<html>")
    arguments = ["--engines", "torch:fp32,torch:fp16", "--device", "cpu", "--images", 6, "--repeat", 2]
    done = fcnseg("bench", tmp_path / "photos", *model(tiny), *arguments, "--json")
    assert done.code == 3
    assert "9.png" in done.err
    found = json.loads(done.out)
    assert (found["exit_code"], found["sizes"], found["peer"]) == (3, {"40 x 30": 5}, "torch:fp32")
    assert found["options"] == {"repeat": 2, "batch_size": 1, "warm_up": 2}
    assert {"machine", "model", "gflop_per_image", "ceilings_gflops", "ceiling", "reference_failure"} < set(found)
    peer, fp16 = found["rows"]
    assert peer["figures"]["agreement"] >= 0.999
    assert set(peer["figures"]) == set(Figures.__dataclass_fields__)
    assert (fp16["figures"], fp16["failure"]) == (None, "fp16 is for GPUs; use --precision bf16 or fp32 on a processor")


def test_ctrl_c_ends_every_process(tiny: TinyModel) -> None:
    arguments = [*model(tiny), "--engines", "torch:fp32", "--repeat", "100000", "--size", "40x30", "-q"]
    process = subprocess.Popen([sys.executable, "-m", "fcnseg", "bench", *arguments], stderr=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    children: list[psutil.Process] = []
    while not children and process.poll() is None:
        children = watched.children(recursive=True)
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "fcnseg: interrupted: the same command starts again\n")
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_the_processes_end_when_the_command_is_killed(tiny: TinyModel) -> None:
    arguments = [*model(tiny), "--engines", "torch:fp32", "--repeat", "100000", "--size", "40x30", "-q"]
    process = subprocess.Popen([sys.executable, "-m", "fcnseg", "bench", *arguments])
    watched = psutil.Process(process.pid)
    children: list[psutil.Process] = []
    while not children and process.poll() is None:
        children = watched.children(recursive=True)
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_the_table_and_its_header(
    fcnseg: Command, tiny: TinyModel, asked: list[tuple[list[Candidate], Workload, BenchOptions]]
) -> None:
    done = fcnseg("bench", *model(tiny), "--engines", "torch:fp32,openvino:bf16", "--size", "64x48", "-b", 2, "-q")
    assert (done.code, done.err) == (0, "")
    (candidates, workload, options) = asked[0]
    assert [str(c) for c in candidates] == ["torch:fp32", "openvino:bf16"]
    assert [frame.size for frame in workload.frames] == [(48, 64)] * 4
    assert options == BenchOptions(repeat=5, batch_size=2)
    (line,) = (line for line in done.out.splitlines() if line.startswith("openvino:bf16"))
    for cell in ("12.50", "2.00x", "80 ms", "100 ms", "1.00 GiB", "0.50 s", "99.900 %", "120 (40%)"):
        assert cell in line


def test_everything_that_runs_here_is_the_default(
    fcnseg: Command,
    tiny: TinyModel,
    tmp_path: Path,
    asked: list[tuple[list[Candidate], Workload, BenchOptions]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"torch": ("fp32", "bf16"), "openvino": ("fp32", "int8")}
    monkeypatch.setattr(machine, "runnable", lambda device: here)
    fcnseg("bench", *model(tiny), "-q")
    fcnseg("bench", *model(tiny), "-q", "--calibrate", tmp_path)
    fcnseg("bench", *model(tiny), "-q", "--engines", "torch")
    two = make_tiny(tmp_path, streams="hha", stride=32)
    fcnseg("bench", *model(two), "-q")
    every, calibrated, torch, streams = ([str(c) for c in candidates] for candidates, _, _ in asked)
    assert every == ["torch:fp32", "torch:bf16", "openvino:fp32"]
    assert calibrated == [*every, "openvino:int8"]
    assert torch == ["torch:fp32", "torch:bf16"]
    assert streams == every
    assert set(asked[3][1].frames[0].inputs) == {"color", "hha"}


def test_candidates_become_engines_of_their_kind(tiny: TinyModel) -> None:
    def kind(backend: str, precision: str = "fp32") -> str:
        given = (str(tiny.recipe), tiny.weights, "cpu", None, {}, Candidate(backend, precision))
        return type(open_candidate(*given)).__name__

    assert kind("torch", "bf16") == "TorchEngine"
    with pytest.raises(SettingsError, match="TensorRT runs on NVIDIA GPUs"):
        kind("tensorrt")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--engines", "torch:fp8,tesseract"], 2, "torch:fp8, tesseract"),
        (["--engines", "opencv"], 2, "does not know opencv"),
        (["--engines", ","], 2, "BACKEND:PRECISION"),
        (["--size", "500"], 2, "WIDTHxHEIGHT"),
        (["nowhere/", "--engines", "torch:fp32"], 1, "nowhere"),
        (["--repeat", "0"], 2, "repeat"),
    ],
)
def test_mistakes_are_one_line(fcnseg: Command, tiny: TinyModel, arguments: list[str], code: int, said: str) -> None:
    done = fcnseg("bench", *model(tiny), *arguments)
    assert done.code == code
    assert said in done.error_line
