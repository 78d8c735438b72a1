"""The plan of a training, the callbacks it invokes, and its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcnseg.recipes import RESNETS, Recipe
from fcnseg.training.initial_weights import InitialWeights
from fcnseg.training.presets import STRIDES, Preset
from fcnseg.training.samples import Samples
from fcnseg.training.settings import Files
from fcnseg.training.trainer import StepResult
from fcnseg.training.weight_surgery import Transfer

MEASURES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")
"""The paper's measures (Long, Shelhamer & Darrell 2015, section 5)."""

BEST_BY = ("mean_iu", "pixel_accuracy", "loss")
"""Figures by which validations can be compared; the loss is better if smaller."""

Figures = Mapping[str, float]
"""Values of the MEASURES, shares of 1, and `loss`: the mean cross-entropy of the labelled pixels."""


@dataclass(frozen=True)
class TrainPlan:
    """Everything a training does. `recipe` is that of the finished model; its name is that of the output folder."""

    recipe: Recipe
    preset: Preset
    initial: InitialWeights
    train: Samples
    validation: Samples
    out: Path
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Written to `train.json`; a training is resumed with the same settings only."""
    files: Files = field(default_factory=dict)
    """Written to `images.json`; a training is resumed with the same images only."""
    sizes: Sequence[tuple[int, int]] = ()
    """Height and width of the images to train on, px."""
    extend: bool = False
    """Resume a training that had fewer epochs or steps."""
    best_by: str = "mean_iu"
    """The figure by which the best validation is chosen: one of BEST_BY."""
    patience: int = 0
    """Validations without a better one after which a stage ends; 0: it goes to its end."""
    validate_every: float = 0.0
    """Epochs between validations; 0: twenty validations a stage, but at most one an epoch."""
    save_every: float = 600.0
    """Seconds between checkpoints; they are also written at validations."""
    log_every: int = 20
    """Steps between rows of the log, which hold the mean loss of these steps."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the stages to train: those finer than the initial weights', or the recipe's alone."""
        last = self.recipe.architecture.stride
        if not self.preset.staged or self.recipe.architecture.backbone in RESNETS:
            return (last,)
        initial = self.initial.stride
        return tuple(s for s in STRIDES if s >= last and (initial is None or s < initial)) or (last,)


@dataclass(frozen=True)
class StageStart:
    """A stage that begins, or is resumed after `step`.

    `source` describes its initial weights; `transfer` the layers copied from them, None if later or resumed.
    """

    stride: int
    step: int
    steps: int
    images: int
    batch_size: int
    source: str
    transfer: Transfer | None


@dataclass
class TrainHooks:
    """Callbacks, invoked on rank 0; `stop` on every rank."""

    on_stage: Callable[[StageStart], None] = lambda stage: None
    on_step: Callable[[StepResult], None] = lambda result: None
    on_pass: Callable[[str, int, int], None] = lambda what, done, total: None
    """Passes over images between steps: a description, the images done, their total."""
    on_warning: Callable[[str], None] = lambda warning: None
    """What is suspicious about the data, or has gone wrong on the way without ending the training."""
    on_note: Callable[[str], None] = lambda note: None
    """Lines that say with which settings the training goes."""
    on_figures: Callable[[Mapping[str, Figures], bool], None] = lambda figures, best: None
    """After each validation: the figures by head, and True if they are the best so far."""
    stop: Callable[[], bool] = lambda: False
    """Asked after every step; once one rank returns True, a checkpoint is written and the training ends."""


@dataclass(frozen=True)
class TrainResult:
    """The end of a training: finished or stopped, with its figures."""

    stopped_at: str
    """The step and stage after which it was stopped; "" if it was finished."""
    figures: Mapping[str, Figures]
    """Figures of the last validation by head."""
    best: float
    """Best figure of the first head over all validations, by `best_by`; NaN if there was none."""
    best_at: str = ""
    """The step of the best validation, in words; "" if there was none."""
    best_by: str = "mean_iu"
    """The figure that `best` is: one of BEST_BY."""
    is_first: bool = True
    """True on rank 0, which reports to the user."""
