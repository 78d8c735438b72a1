"""Numbers that are not finite, wherever a state holds them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def not_finite(state: Mapping[Any, Any], of: str = "") -> str:
    """Return the name of a float tensor that holds a number that is not finite, "" if there is none.

    `state` may hold further mappings and lists: a state dict, an optimizer's state, a checkpoint.
    """
    for key, value in state.items():
        name = f"{of}{key}"
        if isinstance(value, Mapping):
            fault = not_finite(value, f"{name} ")
        elif isinstance(value, list):
            fault = not_finite(dict(enumerate(value)), f"{name} ")
        else:
            fault = "" if not isinstance(value, Tensor) or _is_finite(value) else name
        if fault:
            return fault
    return ""


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    low, high = torch.aminmax(value.detach())
    return math.isfinite(low) and math.isfinite(high)
