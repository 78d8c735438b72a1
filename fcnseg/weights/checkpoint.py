"""Find the state dict in a PyTorch checkpoint: the file itself, or nested under any key."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fcnseg.errors import SettingsError, WeightsError
from fcnseg.weights.tensors import quoted

DEEPEST = 6
"""Dictionaries within dictionaries that are looked into."""

WHOLE_FILE = "."
"""The name of the file's own dictionary, beside those of nested ones."""

FACTS = ("arch", "epoch")
"""Entries of pytorch-fcn's checkpoints that are shown, and used to tell networks apart."""


def find_state(path: Path, content: Any, key: str | None) -> tuple[dict[str, torch.Tensor], str]:
    """Return the tensors of the one state dict of a checkpoint, or of the one that `key` names, and its name.

    Nested keys are joined by dots. Raises WeightsError if there is none, or several and no key; SettingsError for a
    key that it does not have.
    """
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {_article(content)}, not a state dict; save `model.state_dict()`")
    states = dict(_states(content))
    if not states:
        raise WeightsError(f"{path} holds a dictionary without named tensors; save `model.state_dict()`")
    names = ", ".join(map(quoted, states))
    if key is not None:
        if key not in states:
            raise SettingsError(f"{path} has no state dict {key!r}; it has {names}")
        return states[key], key
    if len(states) > 1:
        one = shlex.quote(next(iter(states)))
        choice = f"choose one, e.g. with `fcnseg weights import {shlex.quote(str(path))} --key {one}`"
        raise WeightsError(f"{path} holds several state dicts: {names}; {choice}")
    return next((state, name) for name, state in states.items())


def facts(content: Any) -> dict[str, str]:
    """Return what a checkpoint says about itself."""
    if not isinstance(content, dict):
        return {}
    return {fact: str(content[fact]) for fact in FACTS if isinstance(content.get(fact), str | int)}


def _states(content: dict[Any, Any], place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Yield every dictionary that names parameters, `LAYER.weight`; for the file's own any names will do."""
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if any("." in name for name in tensors):
        yield place or WHOLE_FILE, tensors
    nested = False
    if depth < DEEPEST:
        for key, value in content.items():
            if isinstance(value, dict):
                for found in _states(value, f"{place}.{key}" if place else str(key), depth + 1):
                    nested = True
                    yield found
    if not place and not nested and tensors and not any("." in name for name in tensors):
        yield WHOLE_FILE, tensors


def _article(content: Any) -> str:
    name = type(content).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"
