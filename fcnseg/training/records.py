"""What a training leaves behind as it goes: its settings, checkpoints, the loss curve."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from fcnseg.errors import SettingsError, TrainingError
from fcnseg.io.atomic import PART, whole_file, write_whole

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

PLACES = ("data", "validation")
"""Settings that may differ between parts of a run: data may move, as long as its images are the same by name."""

WRITTEN = (
    "train.json",
    "checkpoint.pt",
    "log.csv",
    "model.toml",
    "model.safetensors",
    "best.toml",
    "best.safetensors",
    "figures.json",
    *(f"stage-{stride}s.safetensors" for stride in (32, 16, 8)),
)


class RunFolder:
    """The folder of a training.

    `train.json` its settings, `checkpoint.pt` all that going on takes, `log.csv` and `tensorboard/` the loss and the
    figures, `model.toml` with `model.safetensors` (the end) and `best.toml` with `best.safetensors` (the best
    validation so far) what it gives. One training at a time holds it, until `close`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.log = path / "log.csv"
        self._tensorboard: Any = None
        self._lock = FileLock(path / ".lock")

    def begin(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder, or see that it was made by the same settings. Raises SettingsError that names what differs,
        or for a folder that holds something else, or in which another training is at work."""
        file = self.path / "train.json"
        if self.path.is_dir() and any(self.path.iterdir()) and not overwrite and not file.exists():
            raise SettingsError(f"{self.path} holds something else; give an empty or a new --out")
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise SettingsError(f"another training is at work in {self.path}; give another --out") from error
        for name in WRITTEN if overwrite else ():
            (self.path / name).unlink(missing_ok=True)
        for left in [*self.path.glob(f"{PART}*"), *(self.path.glob("tensorboard/events.*") if overwrite else ())]:
            left.unlink()
        if file.exists():
            self._compare(file, settings)
        else:
            write_whole(file, [json.dumps(settings, indent=2).encode()])

    def _compare(self, file: Path, settings: Mapping[str, Any]) -> None:
        try:
            before = dict(json.loads(file.read_text()))
        except ValueError as error:
            raise SettingsError(f"{file} is damaged ({error}); begin anew with --overwrite") from error
        now = json.loads(json.dumps(settings))
        names = (before.keys() | now.keys()) - set(PLACES)
        differ = [name for name in sorted(names) if before.get(name) != now.get(name)]
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
            reason = str(error).partition(". ")[0]
            raise TrainingError(f"{self.checkpoint} cannot be read ({reason}); begin anew with --overwrite") from error
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        try:
            with whole_file(self.checkpoint) as file:
                torch.save(dict(state), file)
        except RuntimeError as error:  # torch ends its archive whatever happened, and fails once more
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def open_log(self, stage: int, step: int) -> None:
        """Go on with the curves after a step; what lies beyond was not kept, and will be written again."""
        rows = []
        if self.log.exists():
            whole, _, _ = self.log.read_text().rpartition("\n")  # of a full disk, the last row may be cut
            rows = [r for r in csv.DictReader(whole.split("\n")) if (int(r["stage"]), int(r["step"])) <= (stage, step)]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.log, [text.getvalue().encode()])
        from tensorboardX import SummaryWriter

        self._close_tensorboard()
        last = int(rows[-1]["step"]) if rows else 0
        self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=last + 1 if rows else None)

    def write(self, stage: int, step: int, values: Mapping[str, float]) -> None:
        """One row of the curves: some of COLUMNS."""
        with self.log.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"stage": stage, "step": step, **values})
        for name, value in values.items():
            self._tensorboard.add_scalar(f"stage{stage}/{name}", value, step)

    def close(self) -> None:
        """Write what is held back, and let others have the folder."""
        self._close_tensorboard()
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def _close_tensorboard(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None
