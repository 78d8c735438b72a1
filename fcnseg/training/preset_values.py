"""Checks of the values in a preset file or given as options: all faults are reported together."""

import difflib
import sys
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from fcnseg.errors import SettingsError

Rule = tuple[Callable[[Any], bool], str]
"""A check of a value, and what an error says is allowed."""


def _choice(*options: str) -> Rule:
    return lambda value: value in options, f"{', '.join(options[:-1])} or {options[-1]}"


_NOT_NEGATIVE: Rule = (lambda value: value >= 0, "0 or more")
_BELOW_ONE: Rule = (lambda value: 0 <= value < 1, "0 to below 1")

_RULES: dict[str, Rule] = {
    "epochs": (lambda v: min(v, default=0) > 0, "numbers above 0"),
    "steps": (lambda v: min(v, default=1) >= 1, "numbers from 1"),
    "batch_size": (lambda v: v >= 1, "1 or more"),
    "optimizer": _choice("sgd", "adamw"),
    "lr": (lambda v: v > 0, "numbers above 0"),
    "finetune_lr": _NOT_NEGATIVE,
    "lr_schedule": _choice("constant", "poly", "cosine"),
    "momentum": _BELOW_ONE,
    "weight_decay": _NOT_NEGATIVE,
    "bias_lr_multiplier": _NOT_NEGATIVE,
    "deconvolutions": _choice("fixed", "last-fixed", "learned"),
    "crop": (lambda v: len(v) in (0, 2) and min(v, default=0) >= 0, "a height and a width, px"),
    "scale": (lambda v: len(v) == 2 and 0 < v[0] <= v[1], "the smallest and the largest factor"),
    "color_jitter": _NOT_NEGATIVE,
    "class_balance_power": _NOT_NEGATIVE,
    "jaccard_weight": _NOT_NEGATIVE,
    "clip_grad_norm": _NOT_NEGATIVE,
    "trunk_lr_multiplier": _NOT_NEGATIVE,
    "rotation": (lambda v: 0 <= v <= 180, "0 to 180 degrees"),
    "class_weights": (lambda v: min(v, default=0) >= 0 and (not v or max(v) > 0), "numbers from 0, one a class"),
    "focal_gamma": _NOT_NEGATIVE,
    "dice_weight": _NOT_NEGATIVE,
    "ema_decay": _BELOW_ONE,
    "precision": _choice("auto", "fp32", "bf16"),
}
"""Rules by key; a key without one may have any value of its type."""

FORMER_KEYS = {
    "average": "ema_decay",
    "balance": "class_balance_power",
    "batch": "batch_size",
    "bias_rate": "bias_lr_multiplier",
    "clip": "clip_grad_norm",
    "color": "color_jitter",
    "jaccard": "jaccard_weight",
    "mirror": "hflip",
    "normalise": "normalize_loss",
    "optimiser": "optimizer",
    "rate": "lr",
    "schedule": "lr_schedule",
    "stage_cut": "stage_lr_factor",
    "tuning_rate": "finetune_lr",
}
"""Keys of earlier versions and the names they have now, for the error message."""


def check_values(preset: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return values by field name as the dataclass `preset` holds them: numbers as floats, lists as tuples.

    Raises SettingsError that names every unknown key and invalid value, after `where` they come from.
    """
    hints = get_type_hints(preset)
    checked, faults = dict[str, Any](), list[str]()
    for key, value in values.items():
        if key not in hints:
            faults.append(_unknown(key, hints))
            continue
        checked[key] = _converted(hints[key], value)
        if checked[key] is None:
            faults.append(f"{key} is {value!r}; give {_described(hints[key])}")
        elif key in _RULES and not _RULES[key][0](checked[key]):
            faults.append(f"{key} is {value!r}; use {_RULES[key][1]}")
    if faults:
        raise SettingsError(f"{where}: " + "; ".join(faults))
    return checked


def _unknown(key: str, hints: Mapping[str, Any]) -> str:
    near = [FORMER_KEYS[key]] if key in FORMER_KEYS else difflib.get_close_matches(key, hints, n=1)
    return f"{key}: unknown key; " + (f"did you mean {near[0]}?" if near else f"the keys are {', '.join(hints)}")


_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}


def _described(hint: Any) -> str:
    return f"a list, each {_WORDS[get_args(hint)[0]]}" if get_args(hint) else _WORDS[hint]


def _converted(hint: Any, value: Any) -> Any:
    """Return the value as a field of that type holds it, None if it is of another type."""
    if get_args(hint):
        items = value if isinstance(value, list | tuple) else [value]
        converted = tuple(_converted(get_args(hint)[0], item) for item in items)
        return None if None in converted else converted
    if hint is float and type(value) in (int, float):
        return float(value) if abs(value) <= sys.float_info.max else None
    return value if type(value) is hint else None
