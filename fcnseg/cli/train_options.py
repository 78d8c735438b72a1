"""Options of `fcnseg train` that change single values of a preset, by their names there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fcnseg.cli.completion import complete_values
from fcnseg.errors import SettingsError

Epochs = Annotated[float | None, typer.Option(min=0, metavar="N", help="Passes over the data, in every stage.")]
Steps = Annotated[int | None, typer.Option(min=1, metavar="N", help="Steps of every stage, instead of epochs.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", "-b", min=1, metavar="N", help="Images a step.")]
LearningRate = Annotated[float | None, typer.Option("--lr", metavar="RATE", help="Peak learning rate.")]
Optimizer = Annotated[
    str | None, typer.Option(metavar="adamw|sgd", autocompletion=complete_values("adamw", "sgd"), help="Optimizer.")
]
LrSchedule = Annotated[
    str | None,
    typer.Option(
        metavar="cosine|poly|constant",
        autocompletion=complete_values("cosine", "poly", "constant"),
        help="Course of the learning rate; cosine after a warm-up.",
    ),
]
WeightDecay = Annotated[float | None, typer.Option(metavar="DECAY", help="Weight decay.")]
Freeze = Annotated[
    str | None,
    typer.Option(metavar="trunk", autocompletion=complete_values("trunk"), help="Train all but the trunk."),
]
TrunkLr = Annotated[
    float | None, typer.Option("--trunk-lr-multiplier", metavar="FACTOR", help="Learning rate of the trunk, of --lr.")
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        metavar="balanced|none|W,W,...",
        help="Weights of classes in the loss: by their frequency, all 1, or one each in their order.",
    ),
]
JaccardWeight = Annotated[float | None, typer.Option(metavar="W", help="Weight of the soft Jaccard (IoU) loss.")]
DiceWeight = Annotated[float | None, typer.Option(metavar="W", help="Weight of the soft Dice loss.")]
FocalGamma = Annotated[float | None, typer.Option(metavar="GAMMA", help="Focal loss instead of cross-entropy; 0: off.")]
Crop = Annotated[str | None, typer.Option(metavar="WxH|off", help="Train on random crops, or on whole images.")]
HorizontalFlip = Annotated[bool | None, typer.Option("--hflip/--no-hflip", help="Flip half of the images.")]
VerticalFlip = Annotated[bool | None, typer.Option("--vflip/--no-vflip", help="Turn half of the images upside down.")]
Rotation = Annotated[float | None, typer.Option(metavar="DEGREES", help="Turn crops by at most so much.")]
Staged = Annotated[
    bool | None, typer.Option("--staged/--at-once", help="Train 32s, 16s, 8s in turn, or the last at once.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="auto|fp32|bf16",
        autocompletion=complete_values("auto", "fp32", "bf16"),
        help="Arithmetic of the trunk; auto: bf16 where the device has it.",
    ),
]


def preset_values(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a preset that options give. Raises SettingsError for texts that are not understood."""
    values = {name: value for name, value in given.items() if value is not None}
    if "crop" in values:
        values["crop"] = _crop(values["crop"])
    if (frozen := values.pop("freeze", None)) is not None:
        if frozen != "trunk":
            raise SettingsError(f"--freeze is {frozen!r}; only the trunk can be: --freeze trunk")
        if values.get("trunk_lr_multiplier"):
            raise SettingsError("--freeze and --trunk-lr-multiplier contradict each other; give one")
        values["trunk_lr_multiplier"] = 0.0
    return values | _class_weights(values.pop("class_weights", None))


def _class_weights(text: str | None) -> dict[str, Any]:
    named = {None: {}, "balanced": {"class_balance_power": 0.5}, "none": {"class_balance_power": 0.0}}
    if text in named:
        return named[text]
    try:
        return {"class_weights": [float(weight) for weight in str(text).split(",")]}
    except ValueError as error:
        raise SettingsError(
            f"--class-weights is {text!r}; give balanced, none, or a number for each class: 1,2.5,..."
        ) from error


def _crop(text: str) -> list[int]:
    if text == "off":
        return [0, 0]
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise SettingsError(f"--crop is {text!r}; give WIDTHxHEIGHT in px, or off")
    return [int(height), int(width)]
