"""`fcnseg train`: from labelled images to a model that the other commands take."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.console import err, out, shown
from fcnseg.cli.options import Config, Quiet
from fcnseg.cli.progress import progress_bar

if TYPE_CHECKING:
    from fcnseg.training.loop import Progress as Progressed
    from fcnseg.training.stages import StageBegun, Trained, TrainHooks


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A name that `fcnseg models` lists, or a recipe FILE.toml.")
    ],
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
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run: model, log, checkpoint.")
    ],
    regime: Annotated[
        str,
        typer.Option(
            metavar="modern|paper|heavy|FILE.toml", help="How to train; the options below change single values."
        ),
    ] = "modern",
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Begin with these weights: an ImageNet classifier, another FCN, a run's checkpoint.pt. Twice for late "
            "fusion, in the order of the streams.",
            show_default="the model's own",
        ),
    ] = None,
    scratch: Annotated[bool, typer.Option("--scratch", help="Begin with random weights.")] = False,
    expand_classes: Annotated[
        bool, typer.Option("--expand-classes", help="Keep the scores of a start of fewer classes; the new ones follow.")
    ] = False,
    val: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Validate on this data set instead of the validation part of --data."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="DATA", help="Train on this data set too (repeatable); it must have the same classes."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What --data is: voc, sbd, pascalcontext, nyud, siftflow, camvid, pairs or hdf5.",
            show_default="by its layout",
        ),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="The part to train on.")] = "train",
    val_split: Annotated[str, typer.Option(metavar="NAME", help="The part to validate on.")] = "val",
    epochs: Annotated[float | None, typer.Option(min=0, help="Passes over the data, in every stage.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of every stage, instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", min=1, help="Images a step.")] = None,
    micro_batch: Annotated[
        int, typer.Option(min=1, help="Images at once; the gradients of a step's images are summed.")
    ] = 8,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    crop: Annotated[str | None, typer.Option(metavar="WxH|off", help="Train on random views of this size.")] = None,
    staged: Annotated[
        bool | None, typer.Option("--staged/--at-once", help="32s, 16s, 8s one after the other, or the last at once.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="auto|fp32|bf16", help="Arithmetic of the trunk; auto: bf16 where the device has it."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where to train.")] = "auto",
    workers: Annotated[int | None, typer.Option("--workers", "-j", min=0, help="Processes that read images.")] = None,
    validate_every: Annotated[
        float, typer.Option(min=0, metavar="EPOCHS", help="Epochs between validations.", show_default="20 a stage")
    ] = 0.0,
    save_every: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Between checkpoints.")] = 600.0,
    log_every: Annotated[int, typer.Option(min=1, metavar="STEPS", help="Between rows of the log.")] = 20,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in a folder that holds a run.")] = False,
    config: Config = None,  # noqa: ARG001 - read by its callback
    quiet: Quiet = False,
) -> None:
    """Train the network of RECIPE on labelled images.

    The data set brings its classes (classes.txt in its folder, a name a line), or has the recipe's. Stopped at any
    moment, the same command goes on; RUN/model.toml is a recipe that run, build-engine and score take as it stands,
    RUN/best.toml that of the best validation, RUN/log.csv and RUN/tensorboard hold the curves. Several GPUs:
    torchrun --nproc-per-node N -m fcnseg train ...

    \b
    Regimes:
      modern  own data, small or large: at once, random views, AdamW, averaged weights
      paper   Long, Shelhamer & Darrell 2015: staged, batch 20, momentum 0.9
      heavy   the authors' release: staged, batch 1, momentum 0.99, unnormalised loss

    \b
    Examples:
      fcnseg train street-fcn8s --data mine/ --out runs/mine
      fcnseg run photos/ --model runs/mine/model.toml --out masks/
      fcnseg train voc-fcn8s --data VOCdevkit/ --regime heavy --weights VGG_ILSVRC_16_layers.caffemodel --out runs/voc
      fcnseg train street-fcn8s --data mine/ --out runs/mine2 --scratch --crop 352x288 --epochs 120
    """
    from fcnseg.training.train import TrainOptions
    from fcnseg.training.train import train as train_with

    changes = {
        "epochs": epochs,
        "steps": steps,
        "batch": batch_size,
        "rate": rate,
        "crop": _crop(crop),
        "staged": staged,
        "precision": precision,
    }
    options = TrainOptions(
        recipe=recipe,
        data=data,
        out=out_,
        regime=regime,
        changes={name: value for name, value in changes.items() if value is not None},
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
    )
    with _stopping() as stop, _display(quiet, stop) as hooks:
        trained = train_with(options, hooks)
    if trained.first:
        _conclude(out_, trained)
    if trained.stopped_at:
        raise typer.Exit(130)


def _crop(text: str | None) -> list[int] | None:
    from fcnseg.errors import SettingsError

    if text is None:
        return None
    if text == "off":
        return [0, 0]
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise SettingsError(f"--crop is {text!r}; give WIDTHxHEIGHT in px, or off")
    return [int(height), int(width)]


@dataclass
class _Stop:
    """Whether the user asked to stop, and how to say that it was heard."""

    asked: bool = False
    say: Callable[[], None] = lambda: None


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """The first Ctrl-C (or SIGTERM) ends the training after its step; a second one ends it at once.

    What comes within a second of the first is the same one: the terminal and torchrun both pass it on."""
    stop, first = _Stop(), 0.0

    def ask(*_: object) -> None:
        nonlocal first
        if not stop.asked:
            stop.asked, first = True, time.monotonic()
            stop.say()
        elif time.monotonic() > first + 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(quiet: bool, stop: _Stop) -> Iterator[TrainHooks]:
    """A bar of the stage's steps with the remaining time, and a line a validation; only the lines where standard error
    is no terminal."""
    from fcnseg.training.stages import TrainHooks

    console = err()
    bar = progress_bar(
        "{task.description}",
        "bar",
        "{task.completed}/{task.total} {task.fields[what]}",
        "{task.fields[images]}",
        "elapsed",
        "remaining",
        disable=quiet or not console.is_terminal,
    )
    task = bar.add_task("", total=None, images="", what="steps", visible=False)
    between = bar.add_task("", total=None, images="", what="images", visible=False)
    stop.say = lambda: bar.update(task, description="stopping after this step (Ctrl-C again: at once)")
    stage: StageBegun | None = None
    begun, last, passing = 0.0, 0, False

    def on_stage(now: StageBegun) -> None:
        nonlocal stage, begun
        stage, begun = now, time.monotonic()
        stride = f"{now.stride}s"
        bar.reset(task, total=now.steps, completed=now.step, description=stride, visible=True, what="steps", images="")
        if quiet:
            return
        how = f"goes on after step {now.step}" if now.step else f"begins with {now.source}"
        console.print(f"stage {now.stride}s {how}: {now.steps} steps over {now.images} images", markup=False)
        if now.started and now.started.anew:
            console.print(f"  begun anew: {', '.join(n for n in now.started.anew if n.endswith('.weight'))}")

    def on_step(progress: Progressed) -> None:
        nonlocal last
        last = progress.step
        assert stage is not None
        speed = (last - stage.step) * stage.batch / max(time.monotonic() - begun, 1e-9)
        bar.update(task, completed=last, images=f"{speed:.1f} images/s  loss {progress.loss:.4g}")

    def on_pass(what: str, done: int, images: int) -> None:
        nonlocal passing
        if stage is None and stop.asked:
            raise KeyboardInterrupt  # nothing is trained yet
        if not passing:
            passing = True
            bar.reset(between, total=images, description=what, what="images", images="")
            if stage is None and not quiet:
                console.print(f"{what}: {images}")
        passing = done < images
        bar.update(between, completed=done, visible=passing)

    def on_figures(figures: Mapping[str, dict[str, float]], best: bool) -> None:
        if quiet or stage is None:
            return
        for head, values in figures.items():
            of = f" of {head}" if len(figures) > 1 else ""
            left = (time.monotonic() - begun) / max(last - stage.step, 1) * (stage.steps - last) / 60
            eta = "" if console.is_terminal else f"  step {last} of {stage.steps}, {left:.1f} min left"
            console.print(
                f"{stage.stride}s epoch {last * stage.batch / stage.images:6.1f}{of}: "
                f"mean IU {100 * values['mean_iu']:5.2f} %, pixel accuracy {100 * values['pixel_accuracy']:5.2f} %"
                f"{'  (best)' if best else ''}{eta}"
            )

    with bar:
        yield TrainHooks(on_stage, on_step, on_pass, on_figures, lambda: stop.asked)


def _conclude(folder: Path, trained: Trained) -> None:
    if trained.stopped_at:
        err().print(f"fcnseg: interrupted after {trained.stopped_at}; the same command goes on from there")
        return
    for head, values in trained.figures.items():
        name = f"{head}: " if len(trained.figures) > 1 else ""
        out().print(
            f"{name}pixel accuracy {100 * values['pixel_accuracy']:.2f} %, "
            f"mean accuracy {100 * values['mean_accuracy']:.2f} %, mean IU {100 * values['mean_iu']:.2f} %, "
            f"frequency-weighted IU {100 * values['frequency_weighted_iu']:.2f} %"
        )
    if trained.best > next(iter(trained.figures.values()))["mean_iu"]:
        out().print(f"the best validation, mean IU {100 * trained.best:.2f} %: {shown(str(folder / 'best.toml'))}")
    out().print(f"the model: fcnseg run IMAGES --model {shown(str(folder / 'model.toml'))} --out DIR", markup=False)
