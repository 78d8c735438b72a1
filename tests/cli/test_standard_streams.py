"""Standard streams that are closed, full or left by their reader, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TinyModel, photograph

COMMAND = [sys.executable, "-m", "fcnseg"]

FULL = Path("/dev/full")


@pytest.fixture
def run_line(tiny: TinyModel, tmp_path: Path) -> list[str]:
    """A run of four images, one of which is broken; all its outputs are in `masks`."""
    for seed in range(3):
        photograph(tmp_path / "photos" / f"{seed}.png", seed=seed)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no image")
    return ["run", str(tmp_path / "photos"), "--out", str(tmp_path / "masks"), *tiny.arguments]


def in_shell(arguments: list[str], redirections: str) -> subprocess.CompletedProcess[str]:
    shell = ["bash", "-c", f'"$@" {redirections}', "bash"]
    return subprocess.run([*shell, *COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120)


GONE = "2> >(:)"  # a reader that leaves at once


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("options", "redirections"),
    [
        ([], "2>/dev/full"),
        (["-v"], "2>&-"),
        (["--json-logs"], GONE),
        (["--json-logs"], "2>/dev/full"),
        (["-q", "--json"], "0<&- 2>&-"),
        ([], "1>&- 2>&-"),
    ],
)
def test_a_run_outlives_its_standard_error(
    options: list[str], redirections: str, run_line: list[str], tmp_path: Path
) -> None:
    done = in_shell([*run_line, *options], redirections)
    assert done.returncode == 3
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.png")) == ["0.png", "1.png", "2.png"]
    if "--json" in options and "1>&-" not in redirections:
        assert json.loads(done.stdout)["done"] == 3


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("redirections", ["2>/dev/full", "2>&-", GONE])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["models", "--json"], 0),
        (["weights", "list"], 0),
        (["run", "absent", "--out", "o"], 1),
        (["nonsense"], 2),
        (["status", "absent"], None),
        (["score", "absent", "absent"], None),
    ],
)
def test_every_exit_code_stays(arguments: list[str], code: int | None, redirections: str) -> None:
    expected = in_shell(arguments, "").returncode if code is None else code
    assert in_shell(arguments, redirections).returncode == expected
    assert expected in (0, 1, 2)


def test_a_closed_descriptor_is_not_given_to_a_file(run_line: list[str], tmp_path: Path) -> None:
    """The ledger would be descriptor 2, and whatever libtiff prints would be written into it."""
    program = "import os; from fcnseg.cli import main; import fcnseg.running.run as r; f = r.finish\n"
    program += "def finish(*a):\n    os.write(2, b'TIFF'); os.write(1, b'x'); return f(*a)\n"
    program += "r.finish = finish; main()"
    shell = ["bash", "-c", '"$@" 0<&- 1>&- 2>&-', "bash", sys.executable, "-c", program]
    assert subprocess.run([*shell, *run_line], check=False, timeout=120).returncode == 3
    assert in_shell(["status", str(tmp_path / "masks")], "").stdout.startswith("3 of 4 inputs are done")


@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--help"], ["weights", "list"]])
def test_a_reader_of_results_that_leaves_ends_the_command_quietly(arguments: list[str]) -> None:
    program = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout
    program.stdout.close()
    assert program.stderr
    said = program.stderr.read()
    assert (program.wait(60), [line for line in said.splitlines() if "stored in" not in line]) == (1, [])


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_results_that_cannot_be_written_are_an_error() -> None:
    for arguments in (["models"], ["--version"], ["models", "--json"]):
        done = in_shell(arguments, ">/dev/full")
        assert done.returncode == 1
        assert done.stderr.startswith("fcnseg: error: ")
        assert len(done.stderr.splitlines()) == 1


def test_a_pipe_that_does_not_block_and_is_full(run_line: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    assert subprocess.run([*COMMAND, *run_line], stderr=writer, check=False, timeout=120).returncode == 3
    os.close(reader)
    os.close(writer)
    assert len(list((tmp_path / "masks").glob("*.png"))) == 3
