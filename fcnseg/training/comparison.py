"""Differences of two trainings by the names of their settings, and what of it may differ on resuming."""

from collections.abc import Iterator, Mapping
from typing import Any

from fcnseg.training.settings import Files

NOT_COMPARED = ("data", "validation", "label_values", "images", "validation_images", "execution", "format")
"""Settings that may differ: data may move as long as its images agree; others follow from those that are compared."""

EXTENDABLE = ("preset.epochs", "preset.steps", "patience")

REMEDIES = ("preset.lr", "preset.finetune_lr", "preset.clip_grad_norm", "preset.precision")
"""What may differ after a training diverged: what helps."""

SHOWN = 4
"""Differences that an error names."""

Differences = dict[str, tuple[Any, Any]]
"""The value before and now, by the path of names to a setting."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
    """Return the settings that differ; both are as JSON holds them."""
    one, other = (dict(_flat({k: v for k, v in of.items() if k not in NOT_COMPARED})) for of in (before, now))
    names = [*one, *(name for name in other if name not in one)]
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def described(found: Differences, execution: Mapping[str, Any]) -> str:
    """Return differences in words: "steps was 30, now 40". `execution` says what `auto` chose and for which device."""
    texts = []
    for name, (before, now) in list(found.items())[:SHOWN]:
        short = name.removeprefix("preset.").removeprefix("model.")
        chosen = name == "preset.precision" and execution.get("precision") == "auto"
        why = f" (chosen by auto for {execution.get('device')}; give --precision {before})" if chosen else ""
        texts.append(f"{_changed(short, before, now)}{why}")
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(texts) + more


def _changed(name: str, before: Any, now: Any) -> str:
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now) > 3:
        index = next(i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
        return f"{name}[{index}] was {_text(before[index])}, now {_text(now[index])}"
    return f"{name} was {_text(before)}, now {_text(now)}"


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        return _text(value[0])
    if isinstance(value, list) and len(value) > 12:
        return f"{len(value)} values"
    return "not given" if value is None or value == [] else str(value)


def file_differences(before: Files, now: Files) -> str:
    """Return the images that were added, removed or changed, in words; empty if there are none."""
    texts = []
    for what in now:
        one, other = before.get(what, {}), now[what]
        groups = {
            "added": other.keys() - one.keys(),
            "removed": one.keys() - other.keys(),
            "changed": {name for name in one.keys() & other.keys() if list(one[name]) != list(other[name])},
        }
        for how, names in groups.items():
            if names:
                first, *others = sorted(names)
                shown = ", ".join([first, *others[: SHOWN - 1]]) + ("" if len(names) <= SHOWN else ", ...")
                texts.append(f"{len(names)} {what} image{'s' * (len(names) > 1)} {how}: {shown}")
    return "; ".join(texts)


def extends(found: Differences) -> bool:
    """Tell whether the settings differ only in more epochs or steps, or in patience."""
    lengths = [pair for name, pair in found.items() if name in EXTENDABLE[:2]]
    return bool(lengths) and set(found) <= set(EXTENDABLE) and all(_is_longer(*pair) for pair in lengths)


def _is_longer(before: Any, now: Any) -> bool:
    longest = max(len(before), len(now))
    if not before or not now:
        return False  # from steps to epochs, or the other way round
    pairs = [(side + [side[-1]] * (longest - len(side))) for side in (list(before), list(now))]
    return all(a <= b for a, b in zip(*pairs, strict=True))


def remedies(found: Differences) -> bool:
    """Tell whether the settings differ only in what helps after a training diverged: no higher learning rate."""
    higher = [now > before for name, (before, now) in found.items() if name.endswith("lr") and before and now]
    return bool(found) and set(found) <= set(REMEDIES) and not any(higher)
