"""The stages of a training one after the other, from any initial weights, resumable after any step."""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fcnseg.errors import LabelsError, OutputError, SettingsError
from fcnseg.models import FCN, network_spec
from fcnseg.recipes import Recipe
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.class_weights import balanced_weights, count_class_pixels
from fcnseg.training.distributed import Ranks
from fcnseg.training.estimate import Needs, estimate_needs
from fcnseg.training.export import write_figures, write_model, write_weights
from fcnseg.training.plan import StageStart, TrainHooks, TrainPlan, TrainResult
from fcnseg.training.presets import STRIDES
from fcnseg.training.readers import Readers, ReadingStoppedError
from fcnseg.training.records import RunFolder
from fcnseg.training.restored_norm import with_restored_norm
from fcnseg.training.samples import KEPT_BYTES, KeptSamples
from fcnseg.training.stage_run import StageRun
from fcnseg.training.summary import class_weight_line, settings_lines
from fcnseg.training.trainer import Execution, Trainer
from fcnseg.training.weight_surgery import (
    Transfer,
    at_stride,
    has_batch_norm,
    load_initial,
    new_network,
    refined,
    set_trainable,
)
from fcnseg.workers.limits import free_memory_bytes


def try_plan(plan: TrainPlan, execution: Execution, hooks: TrainHooks, overwrite: bool = False) -> Needs:
    """Do all that comes before the first step, and write nothing: check the folder, read every image, say the settings.

    Raises what `run_plan` raises before its first step.
    """
    folder = RunFolder(plan.out)
    for note in folder.check(plan.settings, plan.files, overwrite=overwrite, extend=plan.extend):
        hooks.on_note(note)
    try:
        with Readers(execution.workers, hooks.stop, hooks.on_warning) as readers:
            weights = _class_weights(plan, execution.ranks, hooks, readers)
    except ReadingStoppedError as stopped:
        raise KeyboardInterrupt from stopped
    needs = estimate_needs(plan, execution)
    for line in (*settings_lines(plan, execution), class_weight_line(plan.recipe, weights)):
        hooks.on_note(line)
    return needs


def run_plan(
    plan: TrainPlan, execution: Execution, hooks: TrainHooks | None = None, overwrite: bool = False
) -> TrainResult:
    """Train to the end of the plan, from the checkpoint in its folder if there is one. Every rank calls this.

    Raises SettingsError for a folder of a training with other settings, TrainingError where the loss is not finite or
    memory runs out, OutputError where the folder cannot be written.
    """
    ranks = execution.ranks
    hooks = hooks or TrainHooks()
    if not ranks.is_first:
        hooks = TrainHooks(stop=hooks.stop)
    if plan.preset.batch_size % ranks.world_size:
        raise SettingsError(
            f"{ranks.world_size} processes cannot share batches of {plan.preset.batch_size}; use a multiple"
        )
    with closing(RunFolder(plan.out, log_classes(plan.recipe))) as folder:
        if ranks.is_first:
            for note in folder.begin(plan.settings, plan.files, overwrite=overwrite, extend=plan.extend):
                hooks.on_note(note)
        ranks.wait()
        if not execution.workers:
            most_bytes = min(KEPT_BYTES, free_memory_bytes() // 4)
            kept_validation = KeptSamples(plan.validation, most_bytes // 4)
            plan = replace(plan, train=KeptSamples(plan.train, most_bytes), validation=kept_validation)
        try:
            with Readers(execution.workers, hooks.stop, hooks.on_warning) as readers:
                return _run_stages(plan, execution, hooks, folder, readers)
        except ReadingStoppedError as stopped:
            raise KeyboardInterrupt from stopped
        except OSError as error:
            kept = "; the same command goes on from its checkpoint" if folder.checkpoint.exists() else ""
            raise OutputError(f"{plan.out} cannot be written: {error.strerror or error}{kept}") from error


def _run_stages(
    plan: TrainPlan, execution: Execution, hooks: TrainHooks, folder: RunFolder, readers: Readers
) -> TrainResult:
    """Run the stages that the checkpoint does not hold yet."""
    ranks = execution.ranks
    checkpoint = folder.load() or {
        "stage": 0,
        "trainer": None,
        "best": -math.inf,
        "best_at": "",
        "stage_best": -math.inf,
        "validations_since_best": 0,
        "network": None,
        "losses": [],
        "weights": None,
        "figures": {},
    }
    if plan.extend and checkpoint["stage"] == len(plan.strides):
        checkpoint |= {"stage": checkpoint["stage"] - 1, "trainer": checkpoint.pop("last")}
    if checkpoint["weights"] is None:
        checkpoint["weights"] = _class_weights(plan, execution.ranks, hooks, readers)
    settings = [*settings_lines(plan, execution), class_weight_line(plan.recipe, checkpoint["weights"])]
    for line in settings:
        hooks.on_note(line)
    for fault in estimate_needs(plan, execution).faults:
        hooks.on_warning(fault)
    for number, stride in enumerate(plan.strides):
        if number < checkpoint["stage"]:
            continue
        trainer, start = _begin_stage(plan, execution, number, stride, checkpoint, readers)
        hooks.on_stage(start)
        if plan.extend:
            lr = f"step {trainer.step + 1} has lr {trainer.lr:.3g}"
            hooks.on_note(f"extended: the {plan.preset.lr_schedule} schedule is over {trainer.steps} steps now; {lr}")
        stage = StageRun(plan, folder, hooks, trainer, number, checkpoint, settings)
        finished = stage.run()
        if not finished:
            return _result(plan, checkpoint, ranks, f"step {trainer.step} of stage {stride}s")
        checkpoint.update(stage=number + 1, trainer=None, network=trainer.result.state_dict(), losses=[])
        last = number == len(plan.strides) - 1
        if last:
            checkpoint |= {"last": trainer.state(), "saved_loss": trainer.check()}
        else:
            checkpoint |= {"stage_best": -math.inf, "validations_since_best": 0}
        if ranks.is_first:
            if last:
                write_model(plan, trainer, "model", stage.figures)
                write_figures(plan, stage.figures)
            else:
                write_weights(plan, trainer, f"stage-{stride}s")
            folder.save(checkpoint)
    return _result(plan, checkpoint, ranks)


def _result(plan: TrainPlan, checkpoint: Mapping[str, Any], ranks: Ranks, stopped_at: str = "") -> TrainResult:
    best = abs(checkpoint["best"]) if checkpoint["best_at"] else math.nan
    return TrainResult(stopped_at, checkpoint["figures"], best, checkpoint["best_at"], plan.best_by, ranks.is_first)


def log_classes(recipe: Recipe) -> list[str]:
    """Return the columns of `log.csv` that hold the IoU of each class."""
    several = len(recipe.heads) > 1
    return [f"iu/{f'{head.name}/' * several}{name}" for head in recipe.heads for name in head.labels.names]


def _begin_stage(
    plan: TrainPlan, execution: Execution, number: int, stride: int, checkpoint: Mapping[str, Any], readers: Readers
) -> tuple[Trainer, StageStart]:
    """Return the trainer of a stage, restored from the checkpoint if that lies within the stage."""
    recipe = at_stride(plan.recipe, stride) if stride != plan.recipe.architecture.stride else plan.recipe
    restored = checkpoint["trainer"]
    if restored is None:
        network, transfer = _initial_network(plan, recipe, checkpoint["network"] if number else None)
    else:
        spec = replace(network_spec(recipe), batch_norm=has_batch_norm(restored["network"]))
        network, transfer = new_network(spec), None
    set_trainable(network, plan.preset.deconvolutions)
    trainer = Trainer(
        network,
        recipe,
        plan.preset,
        plan.train,
        stage=STRIDES.index(stride) if plan.preset.staged else 0,
        seed=plan.seed,
        execution=execution,
        class_weights=checkpoint["weights"],
        readers=readers,
    )
    if restored is not None:
        trainer.restore(restored)
    source = f"the {stride * 2}s net" if number else plan.initial.source
    images, batch_size = len(plan.train), plan.preset.batch_size
    return trainer, StageStart(stride, trainer.step, trainer.steps, images, batch_size, source, transfer)


def _initial_network(
    plan: TrainPlan, recipe: Recipe, coarser: Mapping[str, Tensor] | None
) -> tuple[FCN, Transfer | None]:
    """Return the network that a stage begins with: the one of the stage before, refined, or the initial weights."""
    spec = network_spec(recipe)
    torch.manual_seed(plan.seed)
    if coarser is not None:
        spec = replace(spec, batch_norm=has_batch_norm(coarser))
        before = new_network(replace(spec, stride=STRIDES[STRIDES.index(spec.stride) - 1], skip_scales={}))
        before.load_state_dict(dict(coarser))
        return refined(before, spec), None
    state = plan.initial.state
    batch_norm = plan.preset.batch_norm if state is None else has_batch_norm(state)
    network = new_network(replace(spec, batch_norm=batch_norm), random_scores=not plan.preset.staged)
    if state is None:
        return network, None
    transfer = load_initial(network, state, keep_scores=plan.initial.keep_scores)
    if plan.preset.restore_batch_norm and not batch_norm:
        ignore = {head.name: head.labels.ignore for head in recipe.heads}
        network = with_restored_norm(network, recipe, AugmentedSamples(plan.train, plan.preset, (plan.seed,), ignore))
    return network, transfer


def _class_weights(plan: TrainPlan, ranks: Ranks, hooks: TrainHooks, readers: Readers) -> dict[str, Tensor]:
    """Return the class weights by head, empty for none.

    Reads every image of training and validation, so that damaged files and labels of no class are reported before the
    first step instead of at the first validation.
    """
    pixels = {}
    for what, samples in (("training", plan.train), ("validation", plan.validation)):
        on_progress = partial(_report_pass, hooks, ranks, f"reading the {what} images")
        pixels[what] = count_class_pixels(samples, plan.recipe, ranks, readers, on_progress)
    for what, samples in (("training", plan.train), ("validation", plan.validation)):
        _check_labelled(plan.recipe, pixels[what], what, len(samples))
    for warning in _absent_classes(plan.recipe, pixels["training"]):
        hooks.on_warning(warning)
    if plan.preset.class_weights:
        return {head.name: torch.tensor(plan.preset.class_weights) for head in plan.recipe.heads}
    power = plan.preset.class_balance_power
    return {head: balanced_weights(counts, power) for head, counts in pixels["training"].items()} if power else {}


def _report_pass(hooks: TrainHooks, ranks: Ranks, what: str, done: int, total: int) -> None:
    """Report the images done. Raises ReadingStoppedError on a request to stop."""
    hooks.on_pass(what, done, total)
    if ranks.world_size == 1 and hooks.stop():
        raise ReadingStoppedError


def _check_labelled(recipe: Recipe, pixels: Mapping[str, Tensor], what: str, images: int) -> None:
    """Raise LabelsError if no pixel is labelled: there would be nothing to learn, or no figure."""
    for head in recipe.heads:
        if not pixels[head.name].any():
            of_head = f" of {head.name}" if len(recipe.heads) > 1 else ""
            raise LabelsError(
                f"no pixel{of_head} is labelled in the {images} {what} images: all are void ({head.labels.ignore}); "
                "correct the label maps, or say with --labels, --label-map or --reduce-labels what their values mean"
            )


def _absent_classes(recipe: Recipe, pixels: Mapping[str, Tensor]) -> list[str]:
    """Return a warning for each head with classes that no pixel for training has."""
    warnings = []
    for head in recipe.heads:
        names = [head.labels.names[i] for i in (pixels[head.name] == 0).nonzero().flatten().tolist()]
        if names:
            of_head = f" of {head.name}" if len(recipe.heads) > 1 else ""
            warnings.append(
                f"no pixel for training has {len(names)} of the {head.labels.classes} classes{of_head}: "
                f"{', '.join(names)}; they cannot be learned, if that is unintended see --labels and --label-map"
            )
    return warnings
