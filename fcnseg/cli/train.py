"""`fcnseg train`: from labelled images to a model that the other commands take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.completion import complete_devices, complete_values
from fcnseg.cli.config_file import Config
from fcnseg.cli.console import out, say, shown
from fcnseg.cli.options import AsJson, JsonLogs, ModelArgument, Quiet, Verbose
from fcnseg.cli.progress import interruptible
from fcnseg.errors import SettingsError

if TYPE_CHECKING:
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
                *("pairs", "hdf5"),
            ),
            help="Form of --data: voc, sbd, pascalcontext, nyud, siftflow, cityscapes, ade20k, camvid, camvid32, pairs "
            "or hdf5.",
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
    epochs: Annotated[
        float | None, typer.Option(min=0, metavar="N", help="Passes over the data, in every stage.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps of every stage, instead of epochs.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", min=1, metavar="N", help="Images a step.")
    ] = None,
    micro_batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images at once; the gradients of a step are accumulated.")
    ] = 8,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="Peak learning rate.")] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="WxH|off", help="Train on random crops, or on whole images.")
    ] = None,
    staged: Annotated[
        bool | None, typer.Option("--staged/--at-once", help="Train 32s, 16s, 8s in turn, or the last at once.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="auto|fp32|bf16",
            autocompletion=complete_values("auto", "fp32", "bf16"),
            help="Arithmetic of the trunk; auto: bf16 where the device has it.",
        ),
    ] = None,
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, even in a used folder.")] = False,
    config: Config = None,  # noqa: ARG001 - read by its callback
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
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
    from fcnseg.cli.train_progress import stop_requests, train_progress
    from fcnseg.training.preparation import TrainOptions
    from fcnseg.training.train import train_with

    overrides = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "crop": _crop(crop),
        "staged": staged,
        "precision": precision,
    }
    options = TrainOptions(
        data=data,
        out=out_,
        model=recipe,
        preset=preset,
        overrides={name: value for name, value in overrides.items() if value is not None},
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
        labels=labels,
        ignore=tuple(ignore or ()),
        reduce_labels=reduce_labels,
        label_map=label_map,
        palette=palette,
        binary=binary,
    )
    with stop_requests() as stop, train_progress(quiet, stop, verbose) as hooks:
        result = train_with(options, hooks)
    if result.is_first:
        _print_result(out_, result, as_json)
    if result.stopped_at:
        raise typer.Exit(130)


def _crop(text: str | None) -> list[int] | None:
    if text is None:
        return None
    if text == "off":
        return [0, 0]
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise SettingsError(f"--crop is {text!r}; give WIDTHxHEIGHT in px, or off")
    return [int(height), int(width)]


def _print_result(folder: Path, result: TrainResult, as_json: bool) -> None:
    if result.stopped_at:
        say(f"fcnseg: interrupted after {result.stopped_at}; the same command goes on from there")
    if as_json:
        models = {name: str(folder / f"{name}.toml") for name in ("model", "best")}
        figures = {
            head: {name: value if value == value else None for name, value in values.items()}
            for head, values in result.figures.items()
        }
        values = {"stopped_at": result.stopped_at, "figures": figures, "best": result.best, **models}
        out().print_json(json.dumps(values), ensure_ascii=True)
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
    if result.best > next(iter(result.figures.values()))["mean_iu"]:
        out().print(f"the best validation, mean IoU {100 * result.best:.2f} %: {shown(str(folder / 'best.toml'))}")
    out().print(f"the model: fcnseg run IMAGES --model {shown(str(folder / 'model.toml'))} --out DIR", markup=False)
