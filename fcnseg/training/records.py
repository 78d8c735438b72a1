"""The folder of a training: settings, checkpoints, curves of loss and figures."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tensorboardX import SummaryWriter

from fcnseg.errors import SettingsError, TrainingError
from fcnseg.io.atomic import PART, whole_file, write_whole
from fcnseg.io.locks import lock_holder, note_holder
from fcnseg.training.plan import MEASURES

COLUMNS = ("stage", "step", "epoch", "lr", "loss", *MEASURES)
"""Columns of `log.csv`; measures are shares of 1, and empty where there was no validation."""

PATHS = ("data", "validation")
"""Settings that may differ when a training is resumed: data may move, as long as the names of its images agree."""

FILES = (
    *("train.json", "checkpoint.pt", "log.csv", "figures.json"),
    *("model.toml", "model.safetensors", "best.toml", "best.safetensors"),
    *(f"stage-{stride}s.safetensors" for stride in (32, 16, 8)),
)


class RunFolder:
    """The folder of a training, locked until `close`.

    | file | content |
    |---|---|
    | `train.json` | settings |
    | `checkpoint.pt` | all that resuming takes |
    | `log.csv`, `tensorboard/` | loss and figures |
    | `model.toml`, `model.safetensors` | the model at the end |
    | `best.toml`, `best.safetensors` | the model of the best validation so far |
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.log = path / "log.csv"
        self._tensorboard: Any = None
        self._lock = FileLock(path / ".lock")

    def begin(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Lock the folder and write its settings, or compare them with those written before.

        Raises SettingsError that names the settings that differ, or for a folder that holds something else or is
        locked by another training.
        """
        file = self.path / "train.json"
        if self.path.is_dir() and any(self.path.iterdir()) and not overwrite and not file.exists():
            raise SettingsError(f"{self.path} holds something else; give an empty or a new --out")
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            process = lock_holder(Path(self._lock.lock_file))
            raise SettingsError(
                f"another training is at work in {self.path}: {process}; give another --out ({process.remedy})"
            ) from error
        note_holder(Path(self._lock.lock_file))
        for name in FILES if overwrite else ():
            (self.path / name).unlink(missing_ok=True)
        for leftover in [*self.path.glob(f"{PART}*"), *(self.path.glob("tensorboard/events.*") if overwrite else ())]:
            leftover.unlink()
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
        if "regime" in before:
            reason = f"{self.path} was begun by an earlier version of fcnseg"
            raise SettingsError(f"{reason}; give another --out, or --overwrite")
        names = (before.keys() | now.keys()) - set(PATHS)
        differ = [name for name in sorted(names) if before.get(name) != now.get(name)]
        if differ:
            changes = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in differ[:4])
            raise SettingsError(f"{self.path} was begun otherwise ({changes}); give the same, or --overwrite")

    def load(self) -> dict[str, Any] | None:
        """Return the checkpoint, None if there is none yet. Raises TrainingError for a damaged one."""
        if not self.checkpoint.exists():
            return None
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever pickle and zip do
            reason = str(error).partition(". ")[0]
            raise TrainingError(f"{self.checkpoint} cannot be read ({reason}); begin anew with --overwrite") from error
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        try:
            with whole_file(self.checkpoint) as file:
                torch.save(dict(state), file)
        except RuntimeError as error:  # torch closes its archive even after a failed write, which fails again
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def open_log(self, stage: int, step: int) -> None:
        """Open the curves after a step; rows beyond it, which no checkpoint holds, are dropped."""
        rows = []
        if self.log.exists():
            whole, _, _ = self.log.read_text().rpartition("\n")  # the last row may be cut, by a full disk or a kill
            rows = [r for r in csv.DictReader(whole.split("\n")) if (int(r["stage"]), int(r["step"])) <= (stage, step)]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.log, [text.getvalue().encode()])
        self._close_tensorboard()
        last = int(rows[-1]["step"]) if rows else 0
        self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=last + 1 if rows else None)

    def write(self, stage: int, step: int, values: Mapping[str, float]) -> None:
        """Append a row to the curves: values of some of COLUMNS."""
        with self.log.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"stage": stage, "step": step, **values})
        for name, value in values.items():
            self._tensorboard.add_scalar(f"stage{stage}/{name}", value, step)

    def close(self) -> None:
        """Flush the curves and unlock the folder."""
        self._close_tensorboard()
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def _close_tensorboard(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None
