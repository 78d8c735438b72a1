"""A job done by another process, which tells of it in JSON lines and ends with whoever asked for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import fcnseg

ENDING_SECONDS = 5
"""How long the process may take to end before it is killed."""

LINES_KEPT = 20
"""How much of what the process says on standard error is kept, for when it dies."""

START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import fcnseg; sys.path.append(sys.path.pop(0)); "
    "from importlib import import_module; import_module(sys.argv[2]).main()"
)
"""Runs a module's `main` of this very fcnseg, wherever it was imported from; nothing else comes from that folder, or
from the working one (-P), that is installed."""

Tell = Callable[[Mapping[str, Any]], object]


def work_elsewhere(module: str, job: Mapping[str, Any], on_message: Tell) -> str:
    """Run `module`.main in a process of its own, which takes the job with `begin`; returns why it died, or "".

    `on_message` gets what the process tells. However the call ends, the process has ended too.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", START, str(Path(fcnseg.__file__).parents[1]), module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the other
    )
    assert process.stdin
    assert process.stdout
    said: deque[str] = deque(maxlen=LINES_KEPT)
    reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        with suppress(BrokenPipeError):  # it died already: its end is seen below
            process.stdin.write(json.dumps(job, default=str) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            on_message(json.loads(line))
        code = process.wait()
    finally:
        with suppress(OSError):
            process.stdin.close()  # its end tells the process that nobody waits any more
        try:
            process.wait(timeout=ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        reader.join(timeout=1)
    if code == -signal.SIGKILL:
        return "it ran out of memory"
    last = next((line.strip() for line in reversed(said) if line.strip()), f"exit code {code}")
    return last if code else ""


def begin() -> tuple[dict[str, Any], Tell]:
    """In the process: its job, and how to tell of it. Ends the process, and removes the job's folder `work`, when the
    one that asked is gone, whatever library call this one is in."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print to standard output
    job = json.loads(sys.stdin.readline())

    def end_with_the_other_side() -> None:
        while os.read(0, 4096):
            pass
        shutil.rmtree(job["work"], ignore_errors=True)
        os._exit(130)

    threading.Thread(target=end_with_the_other_side, daemon=True).start()
    return job, lambda message: answers.write(json.dumps(message) + "\n")
