"""`fcnseg train`: from labelled images to a model that the other commands take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from fcnseg.cli import train_options as chosen
from fcnseg.cli.completion import complete_devices, complete_values
from fcnseg.cli.config_file import Config
from fcnseg.cli.console import out, say, shown
from fcnseg.cli.options import AsJson, JsonLogs, ModelArgument, Quiet, Verbose
from fcnseg.cli.progress import interruptible
from fcnseg.errors import SettingsError

if TYPE_CHECKING:
    from fcnseg.training.estimate import Needs
    from fcnseg.training.plan import TrainResult


@interruptible()
def train(
    recipe: ModelArgument,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="Labelled images: a folder with images/ and labels/, FILE.h5, VOC, SBD, NYUDv2, ...",
        ),
    ],
    out_: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the training: model, log, checkpoint.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            metavar="modern|paper|heavy|FILE.toml",
            autocompletion=complete_values("modern", "paper", "heavy"),
            help="Hyperparameters; the options below change single values.",
        ),
    ] = "modern",
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Initial weights: an ImageNet classifier, another FCN, a run's checkpoint.pt. Twice for late fusion, "
            "in the order of the streams.",
            show_default="the model's own",
        ),
    ] = None,
    scratch: Annotated[bool, typer.Option("--scratch", help="Begin with random weights instead.")] = False,
    expand_classes: Annotated[
        bool, typer.Option("--expand-classes", help="Keep score layers of fewer classes, and add the new ones.")
    ] = False,
    val: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Validate on this data set instead of the validation split of --data."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="DATA", help="Train on this data set too (repeatable); it must have the same classes."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            autocompletion=complete_values(
                *("voc", "sbd", "pascalcontext", "nyud", "siftflow", "cityscapes", "ade20k", "camvid", "camvid32"),
                *("annotated", "pairs", "hdf5"),
            ),
            help="Form of --data: voc, sbd, pascalcontext, nyud, siftflow, cityscapes, ade20k, camvid, camvid32, "
            "pairs, hdf5, or annotated (CVAT, labelme).",
            show_default="by its layout",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Label maps have the values and colours of cityscapes, ade20k, camvid32, ..."
        ),
    ] = None,
    ignore: Annotated[
        list[int] | None, typer.Option(metavar="VALUE", help="Label value that is void (repeatable).")
    ] = None,
    reduce_labels: Annotated[
        bool, typer.Option("--reduce-labels", help="Label maps number classes from 1; 0 is void.")
    ] = False,
    label_map: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Classes of label values: lines `VALUE: CLASS`, or void.")
    ] = None,
    palette: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Classes of the colours of RGB label maps: lines `RED GREEN BLUE CLASS`."),
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Masks: 0 is background, 255 (or 1) foreground.")] = False,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split to train on.")] = "train",
    val_split: Annotated[str, typer.Option(metavar="NAME", help="Split to validate on.")] = "val",
    folds: Annotated[
        int | None,
        typer.Option(min=2, metavar="K", help="Cross-validate: train K times, each fold of --data validating once."),
    ] = None,
    fold: Annotated[int | None, typer.Option(min=1, metavar="I", help="Train with fold I of --folds only.")] = None,
    epochs: chosen.Epochs = None,
    steps: chosen.Steps = None,
    batch_size: chosen.BatchSize = None,
    micro_batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images at once; the gradients of a step are accumulated.")
    ] = 8,
    lr: chosen.LearningRate = None,
    lr_schedule: chosen.LrSchedule = None,
    optimizer: chosen.Optimizer = None,
    weight_decay: chosen.WeightDecay = None,
    freeze: chosen.Freeze = None,
    trunk_lr_multiplier: chosen.TrunkLr = None,
    class_weights: chosen.ClassWeights = None,
    jaccard_weight: chosen.JaccardWeight = None,
    dice_weight: chosen.DiceWeight = None,
    focal_gamma: chosen.FocalGamma = None,
    crop: chosen.Crop = None,
    hflip: chosen.HorizontalFlip = None,
    vflip: chosen.VerticalFlip = None,
    rotation: chosen.Rotation = None,
    staged: chosen.Staged = None,
    precision: chosen.Precision = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    device: Annotated[
        str,
        typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", autocompletion=complete_devices, help="Device to train on."),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", min=0, metavar="N", help="Processes that read images.")
    ] = None,
    validate_every: Annotated[
        float, typer.Option(min=0, metavar="EPOCHS", help="Epochs between validations.", show_default="20 a stage")
    ] = 0.0,
    save_every: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Seconds between checkpoints.")] = 600.0,
    log_every: Annotated[int, typer.Option(min=1, metavar="STEPS", help="Steps between rows of the log.")] = 20,
    best_by: Annotated[
        str,
        typer.Option(
            metavar="FIGURE",
            autocompletion=complete_values("mean_iu", "pixel_accuracy", "loss"),
            help="Figure of the best validation: mean_iu, pixel_accuracy or loss.",
        ),
    ] = "mean_iu",
    patience: Annotated[
        int, typer.Option(min=0, metavar="N", help="End a stage after N validations without a better one; 0: never.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read every image, say settings, memory and disk; train nothing.")
    ] = False,
    extend: Annotated[bool, typer.Option("--extend", help="Resume with more --epochs or --steps than before.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, even in a used folder.")] = False,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,
) -> None:
    """Train the network of MODEL on labelled images.

    The classes are those of the data set (classes.txt in its folder, a name a line), or else the recipe's. A training
    that was stopped at any moment is resumed by the same command. RUN/model.toml is a recipe that run, build-engine and
    score take, RUN/best.toml that of the best validation; RUN/log.csv and RUN/tensorboard hold the curves. Several
    GPUs: torchrun --nproc-per-node N -m fcnseg train ...

    \b
    Presets:
      modern  your own data: at once, random crops, AdamW, cosine schedule
      paper   Long, Shelhamer & Darrell 2015: staged, batch 20, momentum 0.9
      heavy   the authors' release: staged, batch 1, momentum 0.99

    \b
    Examples:
      fcnseg train street-fcn8s --data mine/ --out runs/mine
      fcnseg run photos/ --model runs/mine/model.toml --out masks/
      fcnseg train voc-fcn8s --data VOCdevkit/ --preset heavy \\
        --weights VGG_ILSVRC_16_layers.caffemodel --out runs/voc
      fcnseg train street-fcn8s --data mine/ --out runs/mine2 --scratch \\
        --crop 352x288 --epochs 120
    """
    given = locals()
    from fcnseg.cli.train_progress import stop_requests, train_progress
    from fcnseg.training.preparation import TrainOptions
    from fcnseg.training.train import train_folds, train_with, try_out

    names = (
        *("epochs", "steps", "batch_size", "lr", "lr_schedule", "optimizer", "weight_decay", "freeze"),
        *("trunk_lr_multiplier", "class_weights", "jaccard_weight", "dice_weight", "focal_gamma"),
        *("crop", "hflip", "vflip", "rotation", "staged", "precision"),
    )
    overrides = chosen.preset_values({name: given[name] for name in names})
    options = TrainOptions(
        data=data,
        out=out_,
        model=recipe,
        preset=preset,
        overrides=overrides,
        weights=tuple(weights or ()),
        scratch=scratch,
        expand_classes=expand_classes,
        also=tuple(also or ()),
        validation=val,
        kind=kind,
        split=split,
        validation_split=val_split,
        seed=seed,
        validate_every=validate_every,
        save_every=save_every,
        log_every=log_every,
        device=device,
        workers=workers,
        micro_batch=micro_batch,
        overwrite=overwrite,
        extend=extend,
        best_by=best_by,
        patience=patience,
        folds=folds or 0,
        fold=fold or (1 if dry_run and folds else 0),
        labels=labels,
        ignore=tuple(ignore or ()),
        reduce_labels=reduce_labels,
        label_map=label_map,
        palette=palette,
        binary=binary,
    )
    if fold and not folds:
        raise SettingsError("--fold says which of --folds; give both")
    with stop_requests() as stop, train_progress(quiet, stop, verbose) as hooks:
        if dry_run:
            needs = try_out(options, hooks)
        elif folds and not fold:
            results = train_folds(options, hooks)
            result = results[-1]
        else:
            result = train_with(options, hooks)
    if dry_run:
        _end_dry_run(needs, as_json)
    if folds and not fold and not result.stopped_at:
        if result.is_first:
            _print_folds(out_, results, as_json)
        return
    if result.is_first:
        _print_result(out_, result, as_json)
    if result.stopped_at:
        raise typer.Exit(130)


def _end_dry_run(needs: Needs, as_json: bool) -> NoReturn:
    """Print what the training needs, and exit: 0, or 1 if there is too little."""
    if as_json:
        out().print_json(json.dumps(asdict(needs)), ensure_ascii=True)
    else:
        out().print(needs.line, markup=False)
    for fault in needs.faults:
        say(f"fcnseg: {fault}")
    raise typer.Exit(1 if needs.faults else 0)


def _print_folds(folder: Path, results: Sequence[TrainResult], as_json: bool) -> None:
    text = (folder / "folds.json").read_text()
    if as_json:
        out().print_json(text, ensure_ascii=True)
        return
    for head, figures in json.loads(text)["summary"].items():
        of_head = f"{head}: " if len(results[0].figures) > 1 else ""
        for number, result in enumerate(results, 1):
            out().print(f"{of_head}fold {number}: mean IoU {100 * result.figures[head]['mean_iu']:.2f} %")
        texts = {name: f"{100 * of['mean']:.2f} ± {100 * of['std']:.2f} %" for name, of in figures.items()}
        out().print(f"{of_head}mean IoU {texts['mean_iu']}, pixel accuracy {texts['pixel_accuracy']}, over the folds")


def _print_result(folder: Path, result: TrainResult, as_json: bool) -> None:
    if result.stopped_at:
        say(f"fcnseg: interrupted after {result.stopped_at}; the same command goes on from there")
    if as_json:
        models = {name: str(folder / f"{name}.toml") for name in ("model", "best")}
        figures = {
            head: {name: value if value == value else None for name, value in values.items()}
            for head, values in result.figures.items()
        }
        best = result.best if result.best == result.best else None
        ended = {"stopped_at": result.stopped_at, "figures": figures, "best": best, "best_at": result.best_at}
        out().print_json(json.dumps({**ended, **models}), ensure_ascii=True)
    elif not result.stopped_at:
        _print_figures(folder, result)


def _print_figures(folder: Path, result: TrainResult) -> None:
    for head, values in result.figures.items():
        name = f"{head}: " if len(result.figures) > 1 else ""
        out().print(
            f"{name}pixel accuracy {100 * values['pixel_accuracy']:.2f} %, "
            f"mean accuracy {100 * values['mean_accuracy']:.2f} %, mean IoU {100 * values['mean_iu']:.2f} %, "
            f"frequency-weighted IoU {100 * values['frequency_weighted_iu']:.2f} %"
        )
    if result.best_at and result.best != next(iter(result.figures.values()))[result.best_by]:
        best = f"loss {result.best:.4g}" if result.best_by == "loss" else f"{100 * result.best:.2f} %"
        what = {"mean_iu": "mean IoU ", "pixel_accuracy": "pixel accuracy "}.get(result.best_by, "")
        file = shown(str(folder / "best.toml"))
        out().print(f"the best validation, {what}{best}, after {result.best_at}: {file}")
    out().print(f"the report: {shown(str(folder / 'report.html'))}", markup=False)
    out().print(f"the model: fcnseg run IMAGES --model {shown(str(folder / 'model.toml'))} --out DIR", markup=False)
