"""The measurements on a GPU, rehearsed on the processor."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu import REHEARSAL, Row
from tests.imports import ROOT


def test_a_network_is_measured_in_every_precision_and_batch() -> None:
    scale = replace(REHEARSAL, precisions=("fp32",))
    *rows, plain = gpu.torch_model(scale, gpu.VOC)
    assert [(row.precision, row.batch) for row in rows] == [("fp32", 2), ("fp32", 1)]
    for row in (*rows, plain):
        assert row.rate is not None
        assert row.gflop is not None
        assert row.memory_bytes is not None
        assert 0 < row.gflop < 1
    assert (rows[0].remark, plain.remark) == ("1 graphs, 0.00 GiB", "0 graphs, 0.00 GiB")


def test_a_run_is_held_against_its_bare_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path))
    (row,) = gpu.end_to_end(REHEARSAL)
    assert row.what == "fcnseg run street-fcn8s, 6 JPEGs"
    assert re.match(r"\d+% of the bare engine \(\d+\); busy: list .*, decode .*, predict .*, write ", row.remark)


def test_the_other_parts_run_on_the_processor() -> None:
    machine = next(gpu.machine(REHEARSAL))
    assert "no GPU" in machine.remark or "SM" in machine.remark
    assert [row.precision for row in gpu.ceiling(REHEARSAL)] == ["bf16", "fp32"]
    assert len(list(gpu.alternatives(REHEARSAL))) == 2


def test_photographs_are_as_many_as_asked(tmp_path: Path) -> None:
    many = gpu.write_photographs(tmp_path / "many", replace(REHEARSAL, photographs=230))
    files = sorted(many.iterdir())
    assert len(files) == 230
    assert len({file.read_bytes() for file in files}) == 100


def test_the_table_has_shares_of_the_ceiling_in_the_same_precision() -> None:
    rows = [
        Row("ceiling, product of 8192 x 8192", "fp16", rate=800_000.0),
        Row("torch voc-fcn8s", "fp16", 16, 2000.0, 200.0, 3 << 30, "a | b"),
        Row("torch voc-fcn8s", "fp32", 16, 200.0, 200.0),
        Row("tests", remark="30 passed"),
    ]
    assert list(gpu.table(rows))[2:] == [
        "| ceiling, product of 8192 x 8192 | fp16 |  |  | 800.00 | 100% |  |  |",
        "| torch voc-fcn8s | fp16 | 16 | 2000.0 | 400.00 | 50% | 3.00 | a / b |",
        "| torch voc-fcn8s | fp32 | 16 | 200.0 | 40.00 |  |  |  |",
        "| tests |  |  |  |  |  |  | 30 passed |",
    ]


def test_a_part_that_dies_or_hangs_keeps_its_rows_and_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\necho \'{"what": "first"}\'\necho "# a note"\necho "noise"\n'
        '[ "$3" = hangs ] && exec sleep 60\necho "its last words" >&2\nexit 3\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(gpu.sys, "executable", str(python))
    rows, fault = gpu.run_apart("dies", 30, rehearse=True)
    assert ([row.what for row in rows], rows[1].remark, fault) == (["first", "note"], "a note", "its last words")
    rows, fault = gpu.run_apart("hangs", 1, rehearse=True)
    assert ([row.what for row in rows], fault) == (["first", "note"], "not done in 1 s")


def test_what_fails_does_not_stop_the_rest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter(range(0, 10_000, 40))
    monkeypatch.setattr(gpu.time, "monotonic", lambda: float(next(seconds)))

    def run(name: str, _seconds: float, *, rehearse: bool) -> tuple[list[Row], str]:
        assert rehearse
        return [Row(name)], "it died" if name == "ceiling" else ""

    monkeypatch.setattr(gpu, "run_apart", run)
    assert gpu.main(["--rehearse"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].startswith("| machine |")
    assert "FAILED: it died" in lines[6]
    assert "left out: the time is over" in lines[-1]
    with pytest.raises(SystemExit):
        gpu.main(["--rehearse", "nonsense"])


def test_without_a_device_only_a_rehearsal_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 1
    assert "no CUDA device" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--rehearse", "machine"], ["machine"], []])
def test_the_script_passes_on_what_it_is_given(tmp_path: Path, words: list[str]) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    python.chmod(0o755)
    script = ["bash", "benchmarks/gpu.sh", str(python), *words]
    done = subprocess.run(script, cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert done.stdout.split() == ["-m", "benchmarks.bare", "benchmarks.gpu", *words]
