"""A whole training: the stages of a regime one after the other, from any start, resumable anywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcnseg.errors import OutputError, SettingsError, TrainingError
from fcnseg.io.atomic import write_whole
from fcnseg.models import FCN, network_spec
from fcnseg.recipes import Recipe
from fcnseg.scoring import measures
from fcnseg.scoring.confusion import Counts
from fcnseg.scoring.measures import Tally
from fcnseg.training.class_weights import balanced_weights, class_pixels
from fcnseg.training.export import write_recipe, write_weights
from fcnseg.training.initial_weights import Start
from fcnseg.training.loop import Machine, Progress, Trainer
from fcnseg.training.presets import STRIDES, Regime
from fcnseg.training.records import RunFolder
from fcnseg.training.samples import Samples
from fcnseg.training.weight_surgery import Started, at_stride, begin, learn_deconvolutions, new_network, refined


@dataclass(frozen=True)
class Plan:
    """What to train. `recipe` is that of the finished model, its name that of the run; `start` what it begins with."""

    recipe: Recipe
    regime: Regime
    start: Start
    train: Samples
    validation: Samples
    out: Path
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    validate_every: float = 0.0
    """Epochs between validations; 0: twenty a stage, but at least one."""
    save_every: float = 600.0
    """Seconds between checkpoints; they are also written at validations."""
    log_every: int = 20
    """Steps between rows of the log, which hold the mean loss of these steps."""

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of the stages to come: those beyond the start's, or the recipe's at once."""
        last = self.recipe.architecture.stride
        if not self.regime.staged:
            return (last,)
        begun = self.start.stride
        row = tuple(s for s in STRIDES if s >= last and (begun is None or s < begun))
        return row or (last,)


@dataclass(frozen=True)
class StageBegun:
    """A stage that begins, or goes on after `step`: of how many steps, over how many images, `batch` a step.

    `source` is what it began with, and `started` what became of that (None in later stages, and where it goes on)."""

    stride: int
    step: int
    steps: int
    images: int
    batch: int
    source: str
    started: Started | None


@dataclass
class TrainHooks:
    """Whom to tell, in the first process. `stop` is asked after every step, in each; once one says so, the training is
    kept and ends. `on_pass` is told of passes over images between steps: what for, and how many of how many are done.
    """

    on_stage: Callable[[StageBegun], None] = lambda stage: None
    on_step: Callable[[Progress], None] = lambda progress: None
    on_pass: Callable[[str, int, int], None] = lambda what, done, images: None
    on_figures: Callable[[Mapping[str, dict[str, float]], bool], None] = lambda figures, best: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Trained:
    """How a training ended: whole, or stopped at a step of a stage; the last figures of each head, and the best mean IU
    of the first (shares of 1).

    `first`: this is the process that speaks for all."""

    stopped_at: str
    figures: Mapping[str, dict[str, float]]
    best: float
    first: bool = True


def carry_out(plan: Plan, machine: Machine, hooks: TrainHooks | None = None, overwrite: bool = False) -> Trained:
    """Train to the end of the plan, from the checkpoint in its folder if there is one. Every process calls this.

    Raises SettingsError for a folder begun otherwise, TrainingError where the loss is no number or memory runs out,
    OutputError where the folder cannot be written.
    """
    mine = machine.processes
    hooks = hooks or TrainHooks()
    if not mine.first:
        hooks = TrainHooks(stop=hooks.stop)
    if plan.regime.batch % mine.count:
        raise SettingsError(f"{mine.count} processes cannot share batches of {plan.regime.batch}; use a multiple")
    with closing(RunFolder(plan.out)) as folder:
        if mine.first:
            folder.begin(plan.settings, overwrite)
        mine.wait()
        try:
            return _stages(plan, machine, hooks, folder)
        except OSError as error:
            kept = "; the same command goes on from its checkpoint" if folder.checkpoint.exists() else ""
            raise OutputError(f"{plan.out} cannot be written: {error.strerror or error}{kept}") from error


def _stages(plan: Plan, machine: Machine, hooks: TrainHooks, folder: RunFolder) -> Trained:
    """The stages that are left."""
    mine = machine.processes
    kept = folder.load() or {"stage": 0, "trainer": None, "best": -1.0, "network": None, "losses": [], "weights": None}
    figures, best = kept.get("figures", {}), kept["best"]
    if kept["weights"] is None:
        kept["weights"] = _surveyed(plan, machine, hooks)
    for number, stride in enumerate(plan.strides):
        if number < kept["stage"]:
            continue
        recipe = at_stride(plan.recipe, stride) if stride != plan.recipe.architecture.stride else plan.recipe
        network, started = _network(plan, recipe, kept["network"] if number else None)
        learn_deconvolutions(network, plan.regime.deconvolutions)
        stage = STRIDES.index(stride) if plan.regime.staged else 0
        trainer = Trainer(
            network,
            recipe,
            plan.regime,
            plan.train,
            stage=stage,
            seed=plan.seed,
            machine=machine,
            class_weights=kept["weights"],
        )
        if kept["trainer"] is not None:
            trainer.restore(kept["trainer"])
        begun = started if kept["trainer"] is None else None
        images, batch = len(plan.train), plan.regime.batch
        source = f"the {stride * 2}s net" if number else plan.start.source
        hooks.on_stage(StageBegun(stride, trainer.step, trainer.steps, images, batch, source, begun))
        run = _Stage(plan, folder, hooks, trainer, number, kept)
        whole = run.through()
        figures, best = run.figures, kept["best"]
        if not whole:
            return Trained(f"step {trainer.step} of stage {stride}s", figures, best, mine.first)
        last = number == len(plan.strides) - 1
        kept.update(stage=number + 1, trainer=None, network=trainer.result.state_dict(), losses=[])
        if not last:
            kept["best"] = -1.0
        if last:
            _finish(plan, trainer, figures)
        elif mine.first:
            write_weights(plan.out / f"stage-{stride}s.safetensors", trainer.result, recipe, _record(plan))
        if mine.first:
            folder.save({**kept, "figures": figures})
    return Trained("", figures, best, mine.first)


@dataclass
class _Stage:
    """One stage in its folder: rows, validations, checkpoints. `kept` is what a checkpoint holds beside the trainer's
    state: the stage, what it began with, the best mean IU so far, the class weights, the losses not yet in the log."""

    plan: Plan
    folder: RunFolder
    hooks: TrainHooks
    trainer: Trainer
    number: int
    kept: dict[str, Any]
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    saved: float = field(default_factory=time.monotonic)

    @property
    def every(self) -> int:
        """Steps between validations."""
        per_epoch = len(self.plan.train) / self.trainer.regime.batch
        return max(1, round((self.plan.validate_every or max(1.0, self.trainer.steps / per_epoch / 20)) * per_epoch))

    def through(self) -> bool:
        """To the end of the stage, or False where it was stopped."""
        trainer, mine, losses = self.trainer, self.trainer.machine.processes, self.kept["losses"]
        if mine.first:
            self.folder.open_log(self.number, trainer.step)
        for progress in self._steps():
            done = progress.step == progress.steps
            losses.append(progress.loss)
            if progress.step % self.plan.log_every == 0 or done:
                row = {"epoch": progress.epoch, "rate": progress.rate, "loss": float(np.mean(losses))}
                self._write(progress.step, row)
                losses.clear()
            self.hooks.on_step(progress)
            if progress.step % self.every == 0 or done:
                self._validate(progress)
            stop = mine.agreed(self.hooks.stop())
            due = time.monotonic() - self.saved >= self.plan.save_every or progress.step % self.every == 0
            if stop or mine.agreed(due and not done):
                self._save()
            if stop:
                return False
        if not self.figures:  # stopped right before the end
            self._validate(None)
        return True

    def _steps(self) -> Iterator[Progress]:
        """The steps to come; an error also says what is kept."""
        kept = f"{self.folder.checkpoint} is of before; the same command goes on from there"
        try:
            yield from self.trainer.run()
        except TrainingError as error:
            raise TrainingError(f"{error}{f'; {kept}' if self.folder.checkpoint.exists() else ''}") from error

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self.trainer.machine.processes.first:
            self.folder.write(self.number, step, values)

    def _validate(self, progress: Progress | None) -> None:
        images = len(self.plan.validation)
        counts = self.trainer.validate(
            self.plan.validation, lambda done: self.hooks.on_pass("validating", done, images)
        )
        self.figures = {head: figures_of(table) for head, table in counts.items()}
        first = next(iter(self.figures.values()))
        best = first["mean_iu"] > self.kept["best"]
        if progress is not None:
            self._write(progress.step, {"epoch": progress.epoch, **{k: v for k, v in first.items() if k in _FOUR}})
        if best:
            self.kept["best"] = first["mean_iu"]
            if self.trainer.machine.processes.first:
                _write_model(self.plan, self.trainer, "best", self.figures)
        self.hooks.on_figures(self.figures, best)

    def _save(self) -> None:
        """A checkpoint, of numbers only: what is none is never kept."""
        trainer = self.trainer
        if not all(bool(torch.isfinite(p).all()) for p in trainer.network.parameters()):
            raise TrainingError(f"the weights are no longer numbers after step {trainer.step}; try a lower --rate")
        if trainer.machine.processes.first:
            self.folder.save({**self.kept, "stage": self.number, "trainer": trainer.state()})
        self.saved = time.monotonic()


_FOUR = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")


def figures_of(counts: Counts) -> dict[str, float]:
    """The paper's four figures of a confusion matrix, shares of 1."""
    tally = Tally.of(counts)
    return {name: float(getattr(measures, name)(tally)) for name in _FOUR}


def _network(plan: Plan, recipe: Recipe, coarse: Mapping[str, Tensor] | None) -> tuple[FCN, Started | None]:
    """The network that a stage begins with: refined from the stage before, or the start."""
    spec = network_spec(recipe)
    torch.manual_seed(plan.seed)
    if coarse is not None:
        spec = replace(spec, batch_norm=_normalised(coarse))
        before = new_network(replace(spec, stride=STRIDES[STRIDES.index(spec.stride) - 1], skip_scales={}))
        before.load_state_dict(dict(coarse))
        return refined(before, spec), None
    state = plan.start.state
    if state is None:
        scratch = replace(spec, batch_norm=plan.regime.batch_norm)
        return new_network(scratch, random_scores=not plan.regime.staged), None
    normalised = replace(spec, batch_norm=_normalised(state))
    network = new_network(normalised, random_scores=not plan.regime.staged)
    return network, begin(network, state, keep_scores=plan.start.keep_scores)


def _normalised(state: Mapping[str, Tensor]) -> bool:
    """Whether a network's state has normalisation layers."""
    return any("_bn." in name for name in state)


def _surveyed(plan: Plan, machine: Machine, hooks: TrainHooks) -> dict[str, Tensor]:
    """The class weights, empty for none. Every image is read once before the first step, so that what is damaged or
    has labels of no class is found out now, and not at the first validation."""
    pixels = {}
    for what, samples in (("training", plan.train), ("validation", plan.validation)):
        each = partial(hooks.on_pass, f"reading the {what} images")
        pixels[what] = class_pixels(samples, plan.recipe, machine.processes, machine.workers, each)
    if not plan.regime.balance:
        return {}
    return {head: balanced_weights(found, plan.regime.balance) for head, found in pixels["training"].items()}


def _record(plan: Plan) -> dict[str, str]:
    return {"regime": plan.regime.name, "seed": str(plan.seed), "source": plan.start.source}


def _write_model(plan: Plan, trainer: Trainer, name: str, figures: Mapping[str, dict[str, float]]) -> None:
    """The network as it stands: weights, and a recipe that every command takes."""
    mean_iu = next(iter(figures.values()))["mean_iu"]
    write_weights(plan.out / f"{name}.safetensors", trainer.result, trainer.recipe, _record(plan))
    score = f"{100 * mean_iu:.1f} mean IU, validation"
    write_recipe(plan.out / f"{name}.toml", trainer.recipe, f"{name}.safetensors", score)


def _finish(plan: Plan, trainer: Trainer, figures: Mapping[str, dict[str, float]]) -> None:
    """The model as the other commands take it."""
    if not trainer.machine.processes.first:
        return
    _write_model(plan, trainer, "model", figures)
    write_whole(
        plan.out / "figures.json", [json.dumps({"heads": figures, "regime": asdict(plan.regime)}, indent=2).encode()]
    )
