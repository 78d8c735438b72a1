"""Weights of one network made the initial weights of another: finer strides, other classes, more inputs, late fusion.

State dicts go in and out (float tensors by Caffe's layer names); nothing is changed in place. Deconvolutions are left
out throughout: those of a new network are bilinear, as the paper begins every stage.
Sources: Long, Shelhamer & Darrell 2015, section 4; Shelhamer, Long & Darrell 2016 (arXiv 1605.06211), section 4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from fcnseg.errors import WeightsMismatchError
from fcnseg.models.fcn import FCN, ChannelScale
from fcnseg.models.layers import deconvolution_names
from fcnseg.models.spec import NetworkSpec
from fcnseg.recipes import Recipe

State = Mapping[str, Tensor]
AnyTensor = TypeVar("AnyTensor")


@dataclass(frozen=True)
class Transfer:
    """Parameters of a network that were copied from initial weights, and those that were initialised instead."""

    copied: tuple[str, ...]
    initialised: tuple[str, ...]


def at_stride(recipe: Recipe, stride: int) -> Recipe:
    """Return the same model at a coarser stride, without skip scales: a stage before it."""
    return replace(recipe, architecture=replace(recipe.architecture, stride=stride, skip_scales={}))


def has_batch_norm(names: Iterable[str]) -> bool:
    """Return True if a state dict of these names has normalisation layers."""
    return any("_bn." in name for name in names)


def without_upsampling(state: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """Return a state dict without its deconvolutions and skip scales."""
    return {name: value for name, value in state.items() if not name.startswith(("upscore", "scale_"))}


def new_network(spec: NetworkSpec, *, random_scores: bool = False) -> FCN:
    """Return a randomly initialised network: scores that are zero (the paper's) or random, deconvolutions bilinear.

    Deconvolutions are dense (K x K x k x k), which is what the paper learns; in bfloat16 on CPUs they are also several
    times faster to train through than one kernel a class.
    """
    network = FCN(spec, frozenset(deconvolution_names(spec)))
    if random_scores:
        for name, module in network.named_children():
            if name.startswith("score_") and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    return network


def load_initial(network: FCN, state: State, *, keep_scores: bool = True) -> Transfer:
    """Copy into `network` all that `state` has for it: the trunk must be complete, score layers may be missing.

    A score layer of fewer classes is expanded; with `keep_scores=False` all score layers stay as they are. Raises
    WeightsMismatchError for a trunk with missing or misshapen layers, or score layers of more classes.
    """
    copied, initialised, faults = [], [], []
    own = without_upsampling(network.state_dict())
    for name, value in own.items():
        is_score = name.startswith("score_")
        if is_score and (not keep_scores or name not in state):
            initialised.append(name)
        elif name not in state:
            faults.append(f"missing: {name}")
        elif is_score and state[name].shape[0] < value.shape[0] and state[name].shape[1:] == value.shape[1:]:
            own[name] = with_more_classes(state[name], value.shape[0])
            copied.append(name)
        elif state[name].shape != value.shape:
            faults.append(f"misshapen: {name} is {tuple(state[name].shape)}, expected {tuple(value.shape)}")
        else:
            own[name] = state[name]
            copied.append(name)
    if faults:
        raise WeightsMismatchError(f"the weights do not fit this network: {'; '.join(faults[:6])}")
    network.load_state_dict(own, strict=False)
    return Transfer(tuple(copied), tuple(initialised))


def refined(coarse: FCN, spec: NetworkSpec) -> FCN:
    """Return a network of a finer stride with the weights of `coarse`.

    The score layers of new skips are zero, so that score maps at the coarser stride are the coarser net's to the bit,
    and only the interpolation differs. Deconvolutions that both have keep their weights.
    """
    network = new_network(spec)
    load_initial(network, coarse.state_dict())
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    common = {
        name: value
        for name, value in coarse.state_dict().items()
        if name.startswith("upscore") and shapes.get(name) == value.shape
    }
    network.load_state_dict(common, strict=False)
    return network


def with_more_classes(score: Tensor, classes: int) -> Tensor:
    """Extend the weight (K x C x 1 x 1) or bias (K) of a score layer to more classes, with zeros."""
    return torch.cat([score, score.new_zeros(classes - score.shape[0], *score.shape[1:])])


def early_fusion(state: State, color_layer: str, fused_layer: str) -> dict[str, Tensor]:
    """Give the first convolution (C x 3 x k x k; B, G, R) a fourth input, depth, and another name.

    The weights of depth are the mean of the three colours'. Source: the release's early-fusion net.
    """
    fused = {name: value for name, value in state.items() if not name.startswith(f"{color_layer}.")}
    weight = state[f"{color_layer}.weight"]
    fused[f"{fused_layer}.weight"] = torch.cat([weight, weight.mean(1, keepdim=True)], 1)
    fused[f"{fused_layer}.bias"] = state[f"{color_layer}.bias"]
    return fused


def late_fusion(states: Mapping[str, State]) -> dict[str, Tensor]:
    """Combine whole nets as the streams of one: `states` by the suffix of the stream's layers."""
    return {
        f"{layer}{suffix}.{kind}": value
        for suffix, state in states.items()
        for name, value in state.items()
        for layer, _, kind in [name.rpartition(".")]
        if not layer.startswith("upscore")
    }


def set_trainable(network: FCN, deconvolutions: str) -> None:
    """Mark which upsampling parameters learn: deconvolutions by `Preset.deconvolutions`, skip scales never."""
    last_names = {step.name + head.suffix for step in network.fusion[-1:] for head in network.spec.heads}
    for name, module in network.named_children():
        if isinstance(module, ChannelScale):
            module.requires_grad_(False)
        if isinstance(module, nn.ConvTranspose2d):
            last = name in last_names
            module.requires_grad_(deconvolutions == "learned" or (deconvolutions == "last-fixed" and not last))
