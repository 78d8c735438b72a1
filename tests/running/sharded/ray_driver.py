"""A driver in a process of its own: `python -m tests.running.sharded.ray_driver '{"source": ..., "out": ...}'`.

Its engine takes 20 ms an image, and its process is killed by images of a certain width; or it is the bundled model's.
Prints a JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial

from fcnseg.errors import FcnsegError
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.setup import engine_of
from fcnseg.running.sharded import lease
from fcnseg.running.sharded.run import run_in_shards
from fcnseg.running.sharded.worker import OpenEngine
from fcnseg.types import Engine, Labels, Pixels, Probabilities
from tests.fakes import RedEngine

POISONOUS_WIDTH = 47
IMAGE_SECONDS = 0.02


class PacedEngine(RedEngine):
    seconds = IMAGE_SECONDS

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        if inputs["color"].shape[2] == POISONOUS_WIDTH:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return super().infer(inputs, probabilities)


def paced_engine(seconds: float, flag: str | None, options: RunOptions, hooks: Hooks) -> Engine:  # noqa: ARG001
    """The engine; with a `flag`, the first worker that makes this file has another library than the rest."""
    engine = PacedEngine()
    engine.seconds = seconds
    if flag is not None:
        with suppress(FileExistsError):
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
            engine.info = replace(engine.info, versions={"library": "older"})
    return engine


def tell(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def main() -> None:
    values = json.loads(sys.argv[1])
    open_engine: OpenEngine = partial(
        paced_engine, values.pop("image_seconds", IMAGE_SECONDS), values.pop("flag", None)
    )
    if values.pop("is_real", False):
        open_engine = engine_of
    if seconds := values.pop("lapse_seconds", None):
        lease.Lease.__init__.__kwdefaults__.update(beat_seconds=seconds / 6, lapse_seconds=seconds)  # type: ignore[union-attr]
    hooks = Hooks(
        on_note=lambda line: tell("note", text=line),
        on_start=lambda total, info: tell("start", total=total),
        on_result=lambda key, failure: tell("result", key=key, failed=failure is not None),
        on_progress=lambda images: tell("progress", images=images) if images else None,
        on_shards=lambda state: tell("shards", **asdict(state)),
    )
    try:
        summary = run_in_shards(RunOptions(**values), hooks, open_engine)
    except FcnsegError as error:
        tell("error", text=str(error))
        sys.exit(error.exit_code)
    tell("end", **asdict(summary))
    sys.exit(summary.exit_code)


if __name__ == "__main__":
    main()
