"""Fully convolutional networks, made from recipes: layer tables and their geometry, and the networks in plain PyTorch,
which alone need torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fcnseg.models.spec import Head, NetworkSpec, Stream, network_spec

if TYPE_CHECKING:
    from fcnseg.models.fcn import FCN

__all__ = ["FCN", "Head", "NetworkSpec", "Stream", "network_spec"]


def __getattr__(name: str) -> Any:
    if name == "FCN":
        from fcnseg.models.fcn import FCN

        return FCN
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
