"""The folder of a training: settings, checkpoints, curves of loss and figures."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tensorboardX import SummaryWriter

from fcnseg.errors import DivergedError, SettingsError, TrainingError
from fcnseg.io.atomic import PART, whole_file, write_whole
from fcnseg.io.locks import lock_holder, note_holder
from fcnseg.training.comparison import described, differences, extends, file_differences, remedies
from fcnseg.training.finite import not_finite
from fcnseg.training.plan import MEASURES
from fcnseg.training.settings import FORMAT, Files

COLUMNS = ("stage", "step", "epoch", "lr", "loss", *MEASURES, "validation_loss")
"""First columns of `log.csv`; measures are shares of 1, and empty where there was no validation. IoU of classes follow.
"""

FILES = (
    *("train.json", "images.json", "checkpoint.pt", "log.csv", "figures.json", "diverged.json", "report.html"),
    *("model.toml", "model.safetensors", "best.toml", "best.safetensors"),
    *(f"stage-{stride}s.safetensors" for stride in (32, 16, 8)),
)


NOT_IN_TAGS = r"[^-/\w.]"
"""Characters that TensorBoard takes in no name."""


class RunFolder:
    """The folder of a training, locked until `close`.

    | file | content |
    |---|---|
    | `train.json`, `images.json` | settings, and the images with the sizes of their files |
    | `checkpoint.pt` | all that resuming takes |
    | `log.csv`, `tensorboard/` | loss and figures |
    | `model.toml`, `model.safetensors` | the model at the end |
    | `best.toml`, `best.safetensors` | the model of the best validation so far |
    | `report.html` | curves, settings, classes and worst images |
    """

    def __init__(self, path: Path, classes: Sequence[str] = ()) -> None:
        self.path = path
        self.columns = (*COLUMNS, *classes)
        self.checkpoint = path / "checkpoint.pt"
        self.log = path / "log.csv"
        self._tensorboard: Any = None
        self._lock = FileLock(path / ".lock")

    def begin(
        self, settings: Mapping[str, Any], files: Files, *, overwrite: bool = False, extend: bool = False
    ) -> list[str]:
        """Lock the folder and write its settings, or compare them with those written before; return what is to be said.

        With `extend`, the training may have more epochs or steps than before. After a training that diverged, what
        helps may differ. Raises SettingsError that names the settings that differ, or for a folder that holds something
        else or is locked by another training.
        """
        self._check_place(overwrite, extend)
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        for name in FILES if overwrite else ():
            (self.path / name).unlink(missing_ok=True)
        for leftover in [*self.path.glob(f"{PART}*"), *(self.path.glob("tensorboard/events.*") if overwrite else ())]:
            leftover.unlink()
        notes = self._compare(settings, files, extend)
        write_whole(self.path / "images.json", [json.dumps(files).encode()])
        write_whole(self.path / "train.json", [json.dumps({**settings, "format": FORMAT}, indent=2).encode()])
        return notes

    def check(
        self, settings: Mapping[str, Any], files: Files, *, overwrite: bool = False, extend: bool = False
    ) -> list[str]:
        """Return what `begin` would say, and raise its errors about settings; write nothing."""
        self._check_place(overwrite, extend)
        return [] if overwrite else self._compare(settings, files, extend)

    def _check_place(self, overwrite: bool, extend: bool) -> None:
        is_training = (self.path / "train.json").exists()
        if self.path.is_dir() and any(self.path.iterdir()) and not overwrite and not is_training:
            raise SettingsError(f"{self.path} holds something else; give an empty or a new --out")
        if extend and (overwrite or not is_training):
            raise SettingsError(f"there is no training in {self.path} to extend; leave out --extend")

    @property
    def _holds_results(self) -> bool:
        names = ("checkpoint.pt", "best.toml", "model.toml")
        return (self.path / "train.json").exists() and any((self.path / name).exists() for name in names)

    def _take_lock(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            process = lock_holder(Path(self._lock.lock_file))
            raise SettingsError(
                f"another training is at work in {self.path}: {process}; give another --out ({process.remedy})"
            ) from error
        note_holder(Path(self._lock.lock_file))

    def _compare(self, settings: Mapping[str, Any], files: Files, extend: bool) -> list[str]:
        """Compare settings with those of the results in the folder, if there are any."""
        if not self._holds_results:
            return []
        now = json.loads(json.dumps({**settings, "format": FORMAT}))
        before = _read_json(self.path / "train.json")
        if before.get("format") != FORMAT:
            reason = f"{self.path} was begun by an earlier version of fcnseg"
            raise SettingsError(f"{reason}; give another --out, or --overwrite")
        found = differences(before, now)
        images = file_differences(_read_json(self.path / "images.json"), files)
        texts = list(filter(None, (described(found, now.get("execution", {})) if found else "", images)))
        if images or (found and not (extend and extends(found)) and not (self.diverged and remedies(found))):
            hint = ", or --extend for more" if not images and extends(found) else ""
            raise SettingsError(
                f"{self.path} was begun otherwise ({'; '.join(texts)}); give the same, or --overwrite{hint}"
            )
        before_execution, execution = before.get("execution", {}), now.get("execution", {})
        texts += [
            f"{name} was {before_execution[name]}, now {value}: normalisation, dropout and rounding differ by it"
            for name, value in execution.items()
            if name in before_execution and value != before_execution[name] and name in ("micro_batch", "processes")
        ]
        return texts

    @property
    def diverged(self) -> bool:
        """True if the training diverged, and has written no checkpoint since."""
        return (self.path / "diverged.json").exists()

    @property
    def divergence(self) -> Mapping[str, Any]:
        """The values that were noted when the training diverged, none if it did not."""
        return _read_json(self.path / "diverged.json") if self.diverged else {}

    def note_divergence(self, values: Mapping[str, Any]) -> None:
        """Write down that the training diverged, so that other settings are taken to go on."""
        write_whole(self.path / "diverged.json", [json.dumps(values, indent=2).encode()])

    def load(self) -> dict[str, Any] | None:
        """Return the checkpoint, None if there is none yet.

        Raises TrainingError for a damaged one, or one that holds numbers that are not finite.
        """
        if not self.checkpoint.exists():
            return None
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever pickle and zip do
            reason = str(error).partition(". ")[0]
            raise TrainingError(f"{self.checkpoint} cannot be read ({reason}); begin anew with --overwrite") from error
        if fault := not_finite(state):
            raise TrainingError(
                f"{self.checkpoint} holds numbers that are not finite ({fault}); begin anew with --overwrite, or give "
                "best.safetensors beside it as --weights to another --out"
            )
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically. Raises DivergedError if it holds numbers that are not finite."""
        if fault := not_finite(state):
            raise DivergedError(f"{fault} is not finite")
        try:
            with whole_file(self.checkpoint) as file:
                torch.save(dict(state), file)
            (self.path / "diverged.json").unlink(missing_ok=True)
        except RuntimeError as error:  # torch closes its archive even after a failed write, which fails again
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def open_log(self, stage: int, step: int) -> None:
        """Open the curves after a step; rows beyond it, which no checkpoint holds, are dropped."""
        rows = []
        if self.log.exists():
            whole, _, _ = self.log.read_text().rpartition("\n")  # the last row may be cut, by a full disk or a kill
            rows = [r for r in csv.DictReader(whole.split("\n")) if (int(r["stage"]), int(r["step"])) <= (stage, step)]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.log, [text.getvalue().encode()])
        self._close_tensorboard()
        last = int(rows[-1]["step"]) if rows else 0
        self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=last + 1 if rows else None)

    def write(self, stage: int, step: int, values: Mapping[str, float]) -> None:
        """Append a row to the curves: values of some of COLUMNS."""
        with self.log.open("a", newline="") as file:
            known = {name: value for name, value in values.items() if math.isfinite(value)}
            csv.DictWriter(file, self.columns).writerow({"stage": stage, "step": step, **known})
        for name, value in known.items():
            self._tensorboard.add_scalar(f"stage{stage}/{re.sub(NOT_IN_TAGS, '_', name)}", value, step)

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


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        values: Mapping[str, Any] = dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} is damaged ({error}); begin anew with --overwrite") from error
    return values
