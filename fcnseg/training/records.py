"""What a training leaves behind as it goes: its settings, checkpoints, the loss curve."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fcnseg.errors import SettingsError, TrainingError
from fcnseg.files import whole_file, write_whole

COLUMNS = (
    "stage",
    "step",
    "epoch",
    "rate",
    "loss",
    "pixel_accuracy",
    "mean_accuracy",
    "mean_iu",
    "frequency_weighted_iu",
)
"""Columns of `log.csv`; figures are shares of 1, and empty where there was no validation."""


class RunFolder:
    """The folder of a training.

    `train.json` its settings, `checkpoint.pt` all that going on takes, `log.csv` and `tensorboard/` the loss and the
    figures, `model.toml` with `model.safetensors` (the end) and `best.safetensors` (the best validation) what it gives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.log = path / "log.csv"
        self._tensorboard: Any = None

    def begin(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder, or see that it was made by the same settings. Raises SettingsError that names what differs,
        or for a folder that holds something else."""
        file = self.path / "train.json"
        if overwrite:
            for name in ("train.json", "checkpoint.pt", "log.csv", "model.toml", "model.safetensors"):
                (self.path / name).unlink(missing_ok=True)
            for name in ("best.safetensors", "figures.json", *(f"stage-{s}s.safetensors" for s in (32, 16, 8))):
                (self.path / name).unlink(missing_ok=True)
            for event in (self.path / "tensorboard").glob("events.out.tfevents.*"):
                event.unlink()
        if not file.exists():
            if self.path.is_dir() and any(self.path.iterdir()) and not overwrite:
                raise SettingsError(f"{self.path} holds something else; give an empty or a new --out")
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(file, [json.dumps(settings, indent=2).encode()])
            return
        before = json.loads(file.read_text())
        now = json.loads(json.dumps(settings))
        differ = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        if differ:
            changes = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in differ[:4])
            raise SettingsError(f"{self.path} was begun otherwise ({changes}); give the same, or --overwrite")

    def load(self) -> dict[str, Any] | None:
        """The checkpoint, None if there is none yet. Raises TrainingError for a damaged one."""
        if not self.checkpoint.exists():
            return None
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever pickle and zip do
            raise TrainingError(f"{self.checkpoint} cannot be read ({error}); begin anew with --overwrite") from error
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        with whole_file(self.checkpoint) as file:
            torch.save(dict(state), file)

    def open_log(self, stage: int, step: int) -> None:
        """Go on with the curves after a step; what lies beyond was not kept, and will be written again."""
        rows = []
        if self.log.exists():
            with self.log.open(newline="") as file:
                rows = [r for r in csv.DictReader(file) if (int(r["stage"]), int(r["step"])) <= (stage, step)]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.log, [text.getvalue().encode()])
        from tensorboardX import SummaryWriter

        last = int(rows[-1]["step"]) if rows else 0
        self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=last + 1 if rows else None)

    def write(self, stage: int, step: int, values: Mapping[str, float]) -> None:
        """One row of the curves: some of COLUMNS."""
        with self.log.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"stage": stage, "step": step, **values})
        for name, value in values.items():
            self._tensorboard.add_scalar(f"stage{stage}/{name}", value, step)

    def close(self) -> None:
        """Write what is held back."""
        if self._tensorboard is not None:
            self._tensorboard.close()
