"""A job done by a subprocess, which reports in JSON lines."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from fcnseg.workers.process import WorkerDiedError, WorkerProcess, take_over_pipes

Tell = Callable[[Mapping[str, Any]], object]


def run_job(module: str, job: Mapping[str, Any], on_message: Tell) -> str:
    """Run `module.main` in a subprocess, which takes the job with `begin_job`; return why it died, or "".

    `on_message` gets each message of the job. However the call ends, the process has ended too.
    """
    try:
        process = WorkerProcess(module)
    except WorkerDiedError as error:
        return str(error)
    with process:
        with suppress(BrokenPipeError):  # it died already: the loop below ends at once
            process.requests.write(json.dumps(job, default=str).encode() + b"\n")
            process.requests.flush()
        for line in process.answers:
            on_message(json.loads(line))
        return process.cause_of_death() if process.wait() else ""


def begin_job() -> tuple[dict[str, Any], Tell]:
    """In the subprocess: its job, and a function that sends a message.

    When nobody waits for the job any more, the process ends whatever library call it is in, and its folder
    `job["work"]` is removed.
    """
    requests, answers = take_over_pipes()
    job = json.loads(requests.readline())

    def end_with_parent() -> None:
        while os.read(requests.fileno(), 4096):  # not `requests.read`, whose lock would disturb a normal exit
            pass
        shutil.rmtree(job["work"], ignore_errors=True)
        os._exit(130)

    def tell(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    threading.Thread(target=end_with_parent, daemon=True).start()
    return job, tell
