"""Regimes: how a network is trained, as plain values; the two published ones, and one for people with their own data.

Sources: `paper` is section 4 of Long, Shelhamer & Darrell 2015 (arXiv 1411.4038; epochs from arXiv 1605.06211), `heavy`
the solvers of the authors' release (shelhamer/fcn.berkeleyvision.org at 1305c73). The release draws every image at
random; here all come once an epoch, in an order of its own.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from fcnseg.engine.hardware import has_bf16
from fcnseg.errors import SettingsError
from fcnseg.recipes import Recipe

STRIDES = (32, 16, 8)
"""The stages of a chain, coarsest first."""


@dataclass(frozen=True)
class Regime:
    """How to train. Counts of images and steps are those of the whole, however many processes share the work."""

    name: str = "modern"
    staged: bool = False
    """32s, then 16s, then 8s, each from the one before; else the recipe's network at once."""
    epochs: tuple[float, ...] = (120,)
    """Passes over the data of each stage; the last number holds for the stages beyond."""
    steps: tuple[int, ...] = ()
    """Steps of each stage, instead of epochs."""
    batch: int = 8
    """Images a step."""
    optimiser: str = "adamw"
    """`sgd` or `adamw`."""
    rate: float = 3e-3
    """The learning rate: the highest of the schedule, in the first stage."""
    tuning_rate: float = 3e-4
    """The same where training begins with given weights; 0: as from nothing."""
    stage_cut: float = 0.01
    """What the rate is multiplied by as each skip is added (staged only)."""
    schedule: str = "cycle"
    """`fixed`; `poly`, (1 - done)^0.9; or `cycle`, a tenth of the stage up to the rate and then down a cosine."""
    momentum: float = 0.9
    weight_decay: float = 0.02
    bias_rate: float = 1.0
    """The rate of biases, as a multiple."""
    bias_decay: bool = False
    """Whether biases (and normalisation) decay too."""
    normalise: bool = True
    """The loss is the mean over the counted pixels of a step's images; else their sum."""
    deconvolutions: str = "fixed"
    """`fixed`: bilinear; `last-fixed`: all but the last one of each head learn; `learned`."""
    crop: tuple[int, ...] = ()
    """Height and width, px, of the random views; 0, 0: whole images as they are; none: what suits the data."""
    scale: tuple[float, float] = (0.6, 1.8)
    """The least and the most that views are scaled by; unused for whole images."""
    mirror: bool = True
    color: float = 0.25
    """How far brightness and contrast vary (saturation a little more), as a share; 0: not at all."""
    balance: float = 0.5
    """Class weights (median frequency / own frequency) to this power, within 1/2 and 3; 0: all alike."""
    jaccard: float = 1.0
    """Weight of the soft Jaccard loss (1 - intersection over union, of probabilities) beside the pixels' loss."""
    clip: float = 5.0
    """The longest gradient, as its norm; 0: any."""
    batch_norm: bool = True
    """Normalise while training a network from nothing, folded into the convolutions afterwards."""
    average: float = 0.998
    """Decay of the running average of the weights, which is what is kept; 0: the weights themselves."""
    precision: str = "auto"
    """Arithmetic of the trunk: `fp32`, `bf16`, or `auto`: bf16 where the device computes in it, else fp32."""

    def rate_of(self, stage: int) -> float:
        """The learning rate of a stage: 0 is 32s, 1 is 16s, 2 is 8s."""
        return self.rate * (self.stage_cut**stage if self.staged else 1.0)

    def in_precision(self, device: torch.device) -> Regime:
        """The regime with the precision that `auto` means on a device."""
        if self.precision != "auto":
            return self
        return replace(self, precision="bf16" if has_bf16(str(device)) else "fp32")

    def steps_of(self, stage: int, images: int) -> int:
        """How many steps a stage takes over so many images."""
        if self.steps:
            return self.steps[min(stage, len(self.steps) - 1)]
        return max(1, round(self.epochs[min(stage, len(self.epochs) - 1)] * images / self.batch))


_PUBLISHED = Regime(
    staged=True,
    optimiser="sgd",
    tuning_rate=0.0,
    schedule="fixed",
    weight_decay=5e-4,
    bias_rate=2.0,
    crop=(0, 0),
    mirror=False,
    color=0.0,
    balance=0.0,
    jaccard=0.0,
    clip=0.0,
    batch_norm=False,
    average=0.0,
    precision="fp32",
)

REGIMES = {
    "paper": replace(
        _PUBLISHED,
        name="paper",
        batch=20,
        rate=1e-4,
        momentum=0.9,
        bias_decay=True,
        deconvolutions="last-fixed",
        epochs=(175, 60),
    ),
    "heavy": replace(_PUBLISHED, name="heavy", batch=1, rate=1e-10, momentum=0.99, normalise=False, steps=(100_000,)),
    "modern": Regime(),
}

_ALEXNET: dict[str, Any] = {
    "batch": 20,
    "rate": 1e-4,
    "momentum": 0.9,
    "normalise": True,
    "bias_rate": 1.0,
    "bias_decay": True,
}
"""What the release's solver of voc-fcn-alexnet says otherwise (there, the score's bias alone learns twice as fast)."""

RATES = {"vgg16": 1e-4, "alexnet": 1e-3, "googlenet": 5e-5}
"""The paper's learning rates."""


def find_regime(name: str | Path, recipe: Recipe) -> Regime:
    """A regime by name, or of a TOML file that says what differs from the one named `base` in it (else `modern`).

    The published ones follow the recipe: the paper's rate of the backbone, the release's solver of the net, and one
    stage for the nets that were trained at once. Raises SettingsError.
    """
    if str(name).endswith(".toml"):
        return _from_file(Path(name), recipe)
    if str(name) not in REGIMES:
        raise SettingsError(f"there is no regime {str(name)!r}; use {', '.join(REGIMES)}, or a FILE.toml")
    regime = REGIMES[str(name)]
    if regime.name == "modern":
        return regime
    regime = replace(regime, staged=not recipe.architecture.skip_scales)
    if regime.name == "paper":
        return replace(regime, rate=RATES[recipe.architecture.backbone])
    if recipe.architecture.backbone == "alexnet":
        regime = replace(regime, **_ALEXNET)
    if len(recipe.streams) > 1:
        regime = replace(regime, rate=1e-12)
    if recipe.dataset == "voc" and not recipe.architecture.skip_scales:
        return regime
    return replace(regime, steps=(300_000,))


def _from_file(path: Path, recipe: Recipe) -> Regime:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the regime {path} cannot be read: {error}; give a TOML file") from error
    base = find_regime(str(values.pop("base", "modern")), recipe)
    return changed(replace(base, name=path.stem), values, str(path))


def changed(regime: Regime, values: dict[str, Any], where: str) -> Regime:
    """The regime with other values, by the names of its fields; `where` they were found is for the error.

    Raises SettingsError for a name that is none, a value of another kind, or one that cannot be.
    """
    hints = get_type_hints(Regime)
    fields = {f.name for f in dataclasses.fields(Regime)}
    for name, value in values.items():
        if name not in fields:
            raise SettingsError(f"{where}: {name} is nothing that a regime says; it says {', '.join(sorted(fields))}")
        values[name] = _value(f"{where}: {name}", hints[name], value)
    if "epochs" in values and "steps" not in values:
        values["steps"] = ()
    if "rate" in values and "tuning_rate" not in values:
        values["tuning_rate"] = 0.0
    regime = replace(regime, **values)
    faults = list(_faults(regime))
    if faults:
        raise SettingsError(f"{where}: " + "; ".join(faults))
    return regime


def _value(where: str, kind: Any, value: Any) -> Any:
    """The value as the field holds it."""
    if get_args(kind):
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_value(where, get_args(kind)[0], item) for item in items)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
        raise SettingsError(f"{where} is {value!r}; give {wanted}")
    return value


def _faults(r: Regime) -> list[str]:
    rules = (
        (r.optimiser in ("sgd", "adamw"), f"optimiser is {r.optimiser!r}; use sgd or adamw"),
        (r.schedule in ("fixed", "poly", "cycle"), f"schedule is {r.schedule!r}; use fixed, poly or cycle"),
        (r.precision in ("auto", "fp32", "bf16"), f"precision is {r.precision!r}; use auto, fp32 or bf16"),
        (
            r.deconvolutions in ("fixed", "last-fixed", "learned"),
            f"deconvolutions is {r.deconvolutions!r}; use fixed, last-fixed or learned",
        ),
        (r.batch >= 1, f"batch is {r.batch}; use 1 or more"),
        (r.rate > 0 and r.tuning_rate >= 0, f"rate is {r.rate}, tuning_rate {r.tuning_rate}; use numbers above 0"),
        (0 <= r.momentum < 1, f"momentum is {r.momentum}; use 0 to below 1"),
        (0 <= r.average < 1, f"average is {r.average}; use 0 to below 1"),
        (min(r.epochs, default=0) > 0, f"epochs is {r.epochs}; use numbers above 0"),
        (min(r.steps, default=1) >= 1, f"steps is {r.steps}; use numbers from 1"),
        (len(r.crop) in (0, 2) and min(r.crop, default=0) >= 0, f"crop is {r.crop}; use a height and a width, px"),
        (len(r.scale) == 2 and 0 < r.scale[0] <= r.scale[-1], f"scale is {r.scale}; use the least and the most"),
        (
            min(r.weight_decay, r.color, r.balance, r.jaccard, r.clip, r.bias_rate) >= 0,
            "weight_decay, color, balance, jaccard, clip and bias_rate are 0 or more",
        ),
    )
    return [fault for held, fault in rules if not held]
