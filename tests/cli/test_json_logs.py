"""`--json-logs`: nothing but JSON on standard error, whoever prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import TinyModel, photograph

NOISE = """
import logging, os, sys, threading, warnings
import fcnseg.running.run as run
from fcnseg.cli import main
finish = run.finish

def fail():
    raise ValueError("in a thread")

def noisy(*arguments):
    os.write(2, b"TIFFReadDirectory: Warning, unknown field\\n\\x1b[2J\\xff\\rhalf a line")
    os.system("echo from a subprocess >&2")
    warnings.warn("flock is missing")
    logging.getLogger("filelock").warning("a stale lock")
    print("printed", file=sys.stderr)
    os.write(2, b"x" * 300000 + b"\\n")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    {more}
    return finish(*arguments)

run.finish = noisy
main()
"""


@pytest.fixture
def run_line(tiny: TinyModel, tmp_path: Path) -> list[str]:
    photograph(tmp_path / "photos" / "a.png")
    return ["run", str(tmp_path / "photos"), "--out", str(tmp_path / "masks"), *tiny.arguments]


def events_of(command: list[str], code: int = 0) -> list[dict[str, Any]]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def texts(events: list[dict[str, Any]], event: str) -> list[str]:
    return [e["text"] for e in events if e["event"] == event]


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw"])
def test_libraries_say_of_a_damaged_tiff_only_its_reason(run_line: list[str], tmp_path: Path, compression: str) -> None:
    path = tmp_path / "photos" / "broken.tif"
    Image.effect_noise((200, 200), 50).convert("RGB").save(path, compression=compression)
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)
    plain = subprocess.run([sys.executable, "-m", "fcnseg", *run_line], capture_output=True, text=True, check=False)
    assert "fcnseg: failed: broken.tif: " in plain.stderr
    events = events_of([sys.executable, "-m", "fcnseg", *run_line, "--json-logs", "--retry-failed"], 3)
    assert texts(events, "stderr") == []
    assert [event["key"] for event in events if event["event"] == "failed"] == ["broken.tif"]
    assert events[-1]["event"] == "end"


def test_whatever_prints(run_line: list[str]) -> None:
    events = events_of([sys.executable, "-c", NOISE.format(more=""), *run_line, "--json-logs"])
    printed = texts(events, "stderr")
    assert "TIFFReadDirectory: Warning, unknown field" in printed
    assert {"from a subprocess", "a stale lock", "printed"} <= {text.removeprefix("half a line") for text in printed}
    assert any("ValueError: in a thread" in text for text in printed)
    assert texts(events, "warning") == ["flock is missing"]
    assert [e["event"] for e in events if e["event"] in ("start", "done", "end")] == ["start", "done", "end"]


@pytest.mark.parametrize("verbosity", [[], ["-vv"]])
@pytest.mark.parametrize(("error", "code"), [("ZeroDivisionError('odd')", 1), ("OSError(5, 'bad disk')", 1)])
def test_errors_and_tracebacks(error: str, code: int, verbosity: list[str], run_line: list[str]) -> None:
    program = NOISE.format(more=f"raise {error}")
    events = events_of([sys.executable, "-c", program, *run_line, "--json-logs", *verbosity], code)
    (event,) = [e for e in events if e["event"] == "error"]
    assert event["exit_code"] == code
    assert ("traceback" in event) == (bool(verbosity) or "Zero" in error)


def test_a_library_that_prints_more_than_a_pipe_holds_does_not_stop_the_run(run_line: list[str]) -> None:
    """It may hold the interpreter's lock, so that nobody empties the pipe: `PyDLL` calls do."""
    more = "import ctypes; w = ctypes.PyDLL(None).write; [w(2, b'y' * 65536, 65536) for _ in range(100)]"
    events = events_of([sys.executable, "-c", NOISE.format(more=more), *run_line, "--json-logs"])
    assert events[-1]["event"] in ("end", "stderr")
    assert "end" in [e["event"] for e in events]


def test_settings_of_a_file_and_what_is_printed_at_the_very_end(run_line: list[str], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("json-logs = true\n")
    more = "import atexit; atexit.register(lambda: os.write(2, b'at the end\\n'))"
    command = [sys.executable, "-c", NOISE.format(more=more), *run_line, "--config", str(tmp_path / "run.toml")]
    assert "at the end" in texts(events_of(command), "stderr")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "absent", "--out", "o", "--json-logs"], 1),
        (["run", "--json-logs"], 2),
        (["run", "--json-logs", "--nonsense"], 2),
        (["status", "--json-logs"], 2),
    ],
)
def test_what_ends_before_it_begins(arguments: list[str], code: int) -> None:
    (event,) = events_of([sys.executable, "-W", "always", "-m", "fcnseg", *arguments], code)
    assert (event["event"], event["exit_code"]) == ("error", code)


def test_a_settings_file_with_faults_that_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("json_logs = true\nnonsense = 3\n")
    command = [
        sys.executable,
        "-m",
        "fcnseg",
        "run",
        "photos",
        "--out",
        "out",
        "--config",
        str(tmp_path / "settings.toml"),
    ]
    (event,) = events_of(command, 2)
    assert "nonsense is no option" in event["text"]
