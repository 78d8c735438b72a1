"""A driver in a process of its own: `python -m tests.running.sharded.ray_driver '{"source": ..., "out": ...}'`.

Its engine takes 20 ms an image, and its process is killed by images of a certain width. Prints a JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict

from fcnseg.errors import FcnsegError
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.sharded import lease
from fcnseg.running.sharded.run import run_in_shards
from fcnseg.types import Engine, Labels, Pixels, Probabilities
from tests.fakes import RedEngine

POISONOUS_WIDTH = 47
IMAGE_SECONDS = 0.02


class PacedEngine(RedEngine):
    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        if inputs["color"].shape[2] == POISONOUS_WIDTH:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(IMAGE_SECONDS)
        return super().infer(inputs, probabilities)


def paced_engine(options: RunOptions, hooks: Hooks) -> Engine:  # noqa: ARG001
    return PacedEngine()


def tell(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def main() -> None:
    values = json.loads(sys.argv[1])
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
        summary = run_in_shards(RunOptions(**values), hooks, paced_engine)
    except FcnsegError as error:
        tell("error", text=str(error))
        sys.exit(error.exit_code)
    tell("end", **asdict(summary))
    sys.exit(summary.exit_code)


if __name__ == "__main__":
    main()
