"""Weights of one network as the start of another: finer strides, other classes, more inputs, two nets made one.

State dicts go in and out (float tensors by Caffe's layer names); nothing is changed in place. Deconvolutions are left
out throughout: a new network's are bilinear, as the paper begins every stage.
Sources: Long, Shelhamer & Darrell 2015, section 4; Shelhamer, Long & Darrell 2016 (arXiv 1605.06211), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fcnseg.errors import WeightsMismatchError
from fcnseg.models.fcn import FCN, ChannelScale, deconvolution_names
from fcnseg.models.spec import NetworkSpec
from fcnseg.recipes import Architecture, Recipe

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Started:
    """What a network began with: the layers taken from elsewhere, and those that began anew."""

    taken: tuple[str, ...]
    anew: tuple[str, ...]


def at_stride(recipe: Recipe, stride: int) -> Recipe:
    """The same model at a coarser stride, without skip scales: a stage before it."""
    architecture: Architecture = replace(recipe.architecture, stride=stride, skip_scales={})
    return replace(recipe, architecture=architecture)


def new_network(spec: NetworkSpec, *, random_scores: bool = False) -> FCN:
    """A network from nothing: scores that are zero (the paper's) or random, deconvolutions bilinear and dense.

    Dense ones (K x K x k x k) are what the paper learns; in bfloat16 on processors they are also several times faster
    to train through than one kernel a class.
    """
    network = FCN(spec, frozenset(deconvolution_names(spec)))
    if random_scores:
        for name, module in network.named_children():
            if name.startswith("score_") and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    return network


def begin(network: FCN, state: State, *, keep_scores: bool = True) -> Started:
    """Copy into `network` all that `state` has for it: the trunk must be whole, scores may be missing.

    A score layer of fewer classes is expanded; with `keep_scores=False` all scores stay as the network has them.
    Raises WeightsMismatchError for a trunk that is missing or misshapen, or scores of more classes.
    """
    anew, taken, faults = [], [], []
    own = {name: value for name, value in network.state_dict().items() if not name.startswith(("upscore", "scale_"))}
    for name, value in own.items():
        score = name.startswith("score_")
        if score and (not keep_scores or name not in state):
            anew.append(name)
        elif name not in state:
            faults.append(f"missing: {name}")
        elif score and state[name].shape[0] < value.shape[0] and state[name].shape[1:] == value.shape[1:]:
            own[name] = expanded(state[name], value.shape[0])
            taken.append(name)
        elif state[name].shape != value.shape:
            faults.append(f"misshapen: {name} is {tuple(state[name].shape)}, expected {tuple(value.shape)}")
        else:
            own[name] = state[name]
            taken.append(name)
    if faults:
        raise WeightsMismatchError(f"the weights are no start for this network: {'; '.join(faults[:6])}")
    network.load_state_dict(own, strict=False)
    return Started(tuple(taken), tuple(anew))


def refined(coarse: FCN, spec: NetworkSpec) -> FCN:
    """The network of a finer stride that begins where `coarse` ended: new skips' scores are zero, so that its score
    maps at the coarser stride are the coarser net's to the bit, and only interpolation differs.

    Deconvolutions that both have keep what they learned.
    """
    network = new_network(spec)
    begin(network, coarse.state_dict())
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    same = {
        name: value
        for name, value in coarse.state_dict().items()
        if name.startswith("upscore") and shapes.get(name) == value.shape
    }
    network.load_state_dict(same, strict=False)
    return network


def expanded(score: Tensor, classes: int) -> Tensor:
    """A score layer's weight (K x C x 1 x 1) or bias (K) for more classes: the new ones begin at zero."""
    return torch.cat([score, score.new_zeros(classes - score.shape[0], *score.shape[1:])])


def with_depth(state: State, color_layer: str, fused_layer: str) -> dict[str, Tensor]:
    """Early fusion: the first convolution (C x 3 x k x k, B, G, R) with a fourth input that begins as the mean of the
    three, renamed. Source: the release's early-fusion net."""
    fused = {name: value for name, value in state.items() if not name.startswith(f"{color_layer}.")}
    weight = state[f"{color_layer}.weight"]
    fused[f"{fused_layer}.weight"] = torch.cat([weight, weight.mean(1, keepdim=True)], 1)
    fused[f"{fused_layer}.bias"] = state[f"{color_layer}.bias"]
    return fused


def late_fusion(states: Mapping[str, State]) -> dict[str, Tensor]:
    """Two whole nets as the streams of one: `states` by the suffix of the stream's layers."""
    return {
        f"{layer}{suffix}.{kind}": value
        for suffix, state in states.items()
        for name, value in state.items()
        for layer, _, kind in [name.rpartition(".")]
        if not layer.startswith("upscore")
    }


def learn_deconvolutions(network: FCN, which: str) -> None:
    """Say which parameters learn: skip scales never, deconvolutions as `Regime.deconvolutions` says."""
    steps = len(network.fusion)
    for name, module in network.named_children():
        if isinstance(module, ChannelScale):
            module.requires_grad_(False)
        if isinstance(module, nn.ConvTranspose2d):
            last = any(name == network.fusion[steps - 1].name + head.suffix for head in network.spec.heads)
            module.requires_grad_(which == "learned" or (which == "last-fixed" and not last))
