"""Fully convolutional networks in plain PyTorch, made from recipes. Layer tables and their geometry need no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnseg.models.fcn import FCN
    from fcnseg.models.spec import Head, NetworkSpec, Stream, network_spec

__all__ = ["FCN", "Head", "NetworkSpec", "Stream", "network_spec"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from fcnseg.models import fcn, spec

        return getattr(fcn if name == "FCN" else spec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
