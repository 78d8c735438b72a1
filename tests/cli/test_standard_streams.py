"""Standard streams that are closed, full or left by their reader, in real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from fcnseg.cli import standard_streams
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


def full_pipe() -> tuple[int, int]:
    """A pipe without room, which blocks as those of shells do: its reader's and its writer's descriptor."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize("options", [[], ["--json-logs"]])
def test_a_reader_that_does_not_read(options: list[str], run_line: list[str], tmp_path: Path) -> None:
    reader, writer = full_pipe()
    assert subprocess.run([*COMMAND, *run_line, *options], stderr=writer, check=False, timeout=120).returncode == 3
    assert os.get_blocking(writer)  # others write there too
    os.close(reader)
    os.close(writer)
    assert len(list((tmp_path / "masks").glob("*.png"))) == 3


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_reads_late_gets_whole_lines(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_streams, "STALL_SECONDS", 0.01)
    if kind == "pipe":
        reader, writer = full_pipe()
        waiting = 1 << 16
    else:
        ours, theirs = socket.socketpair()
        reader, writer, waiting = ours.detach(), theirs.detach(), 0
    stream = standard_streams.StandardError(writer)
    line = b"y" * 9998 + b"\n"
    for _ in range(200):
        assert stream.write(line) == len(line)
    received = b""
    while len(received) < waiting + 2 * len(line):
        received += os.read(reader, 1 << 16)
        stream.write(line)
    os.close(writer)
    while piece := os.read(reader, 1 << 16):
        received += piece
    os.close(reader)
    *whole, rest = received[waiting:].split(b"\n")
    assert set(whole) == {line[:-1]}
    assert line.startswith(rest)  # the last one is cut where there was no more room


def test_a_terminal_that_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_streams, "STALL_SECONDS", 0.01)
    master, terminal = pty.openpty()
    termios.tcflow(terminal, termios.TCOOFF)  # as Ctrl-S does
    stream = standard_streams.StandardError(terminal)
    for _ in range(1000):
        stream.write(b"progress\n")
    termios.tcflow(terminal, termios.TCOON)
    stream.write(b"end\n")
    assert os.read(master, 100) == b"end\r\n"
    for _ in range(1000):  # nobody reads: there is no more room
        stream.write(b"progress\n")
    os.close(master)
    stream.write(b"end\n")
    os.close(terminal)
