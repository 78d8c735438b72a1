"""Fully convolutional networks: a classifier's trunk, score layers, and the skip fusion of section 4 of the paper.

One class serves every net of the paper and the release: FCN-32s, 16s, 8s and 8s-at-once, on VGG-16, AlexNet or
GoogLeNet, with one or more heads (SIFT Flow), a four-channel input (early fusion) or two whole trunks whose scores
are averaged (late fusion). Layers carry Caffe's names, so a state dict's keys are Caffe's layer names.

Sources: Long, Shelhamer & Darrell, CVPR 2015 (arXiv 1411.4038); the definitions of the authors' release
(shelhamer/fcn.berkeleyvision.org at 1305c73).
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcnseg.models.backbones import Bottleneck, Conv, Layer, LocalResponseNorm, MaxPool, backbone_layers
from fcnseg.models.geometry import Window
from fcnseg.models.layers import WeightLayer, bilinear_kernel, taken, trunk_names, weight_layers
from fcnseg.models.spec import Head, NetworkSpec, Stream, plan_fusion


class ChannelScale(nn.Module):
    """Multiplies each channel by a constant: the skip scales of FCN-8s-at-once. Weight: C."""

    def __init__(self, channels: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), value), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W, each channel scaled."""
        return x * self.weight[:, None, None]


class FCN(nn.Module):
    """A fully convolutional network.

    Called with one float tensor per stream, N x C x H x W (mean already subtracted, channels in the recipe's order),
    all of one size from 1 x 1 up. Returns one float tensor per head, N x K x H x W: scores before the softmax.

    `dense_deconvolutions` names those whose kernels mix classes (K x K x k x k); the others hold one kernel a class
    (K x 1 x k x k), which gives the same numbers for diagonal blobs with K times less arithmetic.
    """

    def __init__(self, spec: NetworkSpec, dense_deconvolutions: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.spec = spec
        self.layers = backbone_layers(spec.backbone, spec.geometry)
        self.fusion = plan_fusion(spec)
        for layer in weight_layers(spec, dense_deconvolutions):
            if hasattr(self, layer.name):
                raise taken(layer.name)
            self.add_module(layer.name, _module(layer))

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Scores of every head; see the class."""
        taps = [self.trunk(stream, image) for stream, image in zip(self.spec.streams, images, strict=True)]
        return tuple(self.fuse(head, taps, images[0].shape[-2:]) for head in self.spec.heads)

    # ------------------------------------------------------------------ trunk

    def trunk(self, stream: Stream, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps that score layers read, by layer name; `fr` is the last one.

        They are returned as float32 whatever the precision of the trunk: scores and sums stay exact.
        """
        taps: dict[str, Tensor] = {}
        names = trunk_names(self.spec, stream)
        x = x.to(next(self._layer(names[self.layers[0].name]).parameters()).dtype)
        for layer in self.layers:
            x = self.run(layer, names[layer.name], x)
            if layer.name in self.spec.skips:
                taps[layer.name] = x
        taps["fr"] = x
        return {name: tap.float() for name, tap in taps.items()}

    def run(self, layer: Layer, name: str, x: Tensor) -> Tensor:
        """Run a layer of the trunk, of that name in its stream, on a map N x C x H x W."""
        if isinstance(layer, Conv):
            conv = self._layer(name)
            if layer.window.pad > layer.window.span // 2:
                assert isinstance(conv, nn.Conv2d)
                x = F.conv2d(_with_margins(x, layer.window), conv.weight, conv.bias, conv.stride, groups=conv.groups)
            else:
                x = conv(x)
            if self.spec.batch_norm:
                x = self._layer(f"{name}_bn")(x)
            x = F.relu(x, inplace=True) if layer.rectified else x
            return F.dropout(x, 0.5, self.training) if layer.fully_connected else x
        if isinstance(layer, MaxPool):
            window = layer.window
            return F.max_pool2d(x, window.kernel, window.stride, window.pad, ceil_mode=layer.rounds_up)
        if isinstance(layer, LocalResponseNorm):
            # in float32: torch has no other for it, and the squares of large activations need the range
            return F.local_response_norm(x.float(), size=5, alpha=1e-4, beta=0.75, k=1.0).to(x.dtype)
        suffix = name.removeprefix(layer.name)
        if isinstance(layer, Bottleneck):
            y = x
            for convolution in layer.convolutions:
                y = self.run(convolution, convolution.name + suffix, y)
            projection = layer.projection
            return F.relu(y + (self.run(projection, projection.name + suffix, x) if projection else x))
        outputs = []
        for branch in layer.branches:
            y = x
            for part in branch:
                y = self.run(part, part.name + suffix, y)
            outputs.append(y)
        return torch.cat(outputs, dim=1)

    # ------------------------------------------------------------------ fusion

    def fuse(self, head: Head, taps: list[dict[str, Tensor]], size: tuple[int, int] | torch.Size) -> Tensor:
        """Return one head's scores at `size`: upsample, crop to the skip layer, add, and so on up to the image."""
        x = self._score("fr", head, taps)
        if not self.fusion:
            return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
        for step in self.fusion:
            x = self._layer(step.name + head.suffix)(x)
            if step.target is None:
                if step.offset < 0:
                    raise ValueError(f"{self.spec.geometry!r} scores do not cover the image; read them coarse")
                return _crop(x, step.offset, size)
            skip = self._score(step.target, head, taps)
            if step.offset >= 0:
                x = _crop(x, step.offset, skip.shape[-2:]) + skip
            else:
                x = x + _crop(skip, -step.offset, x.shape[-2:])
        raise AssertionError("a fusion plan ends at the image")

    def _score(self, tap: str, head: Head, taps: list[dict[str, Tensor]]) -> Tensor:
        """Return the score of one tap, averaged over the streams (late fusion)."""
        scores = []
        for stream, maps in zip(self.spec.streams, taps, strict=True):
            x = maps[tap]
            if tap in self.spec.skip_scales:
                x = self._layer(f"scale_{tap}{stream.suffix}")(x)
            scores.append(self._layer(f"score_{tap}{stream.suffix}{head.suffix}")(x))
        return scores[0] if len(scores) == 1 else torch.stack(scores).mean(0)

    def _layer(self, name: str) -> nn.Module:
        return self._modules[name]  # type: ignore[return-value]


def _module(layer: WeightLayer) -> nn.Module:
    """Return a new layer: score layers are zero, deconvolutions bilinear (see `layers.initial_values`)."""
    channels, window = layer.channels, layer.window
    if layer.kind == "normalisation":
        return nn.BatchNorm2d(channels)
    if layer.kind == "scale":
        return ChannelScale(channels, layer.value)
    if layer.kind == "deconvolution":
        module: nn.Module = nn.ConvTranspose2d(
            layer.channels_in, channels, window.kernel, window.stride, groups=layer.groups, bias=False
        )
        assert isinstance(module.weight, Tensor)
        if not module.weight.is_meta:
            mixing = torch.eye(channels) if layer.groups == 1 else torch.ones(channels, 1)
            with torch.no_grad():
                module.weight.copy_(mixing[:, :, None, None] * torch.from_numpy(bilinear_kernel(window.kernel)))
        return module
    conv = nn.Conv2d(
        layer.channels_in, channels, window.kernel, window.stride, window.pad, window.dilation, layer.groups
    )
    if layer.kind == "score":
        nn.init.zeros_(conv.weight)
    elif not conv.weight.is_meta:  # nothing to fill, and arithmetic on meta tensors costs seconds of imports
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _with_margins(x: Tensor, window: Window) -> Tensor:
    """Zero-pad an image as far as the first convolution reads it. The result is that of padding within the convolution,
    whose last bits depend on the image's width in some libraries."""
    bottom, right = (window.pad - (size + 2 * window.pad - window.kernel) % window.stride for size in x.shape[-2:])
    return F.pad(x, (window.pad, right, window.pad, bottom))


def _crop(x: Tensor, offset: int, size: tuple[int, int] | torch.Size) -> Tensor:
    height, width = size
    return x[..., offset : offset + height, offset : offset + width]


def blank_network(spec: NetworkSpec, dense_deconvolutions: frozenset[str] = frozenset()) -> FCN:
    """Return the network of `spec` on the meta device: for shapes, or for `load_state_dict(assign=True)`."""
    with torch.device("meta"):
        return FCN(spec, dense_deconvolutions)


def fold_batch_norm(network: FCN) -> FCN:
    """Return a copy without batch normalisation: each layer is folded into the convolution before it.

    It computes what the network computes in evaluation mode, to float rounding.
    """
    plain = FCN(replace(network.spec, batch_norm=False), _dense_names(network))
    state = network.state_dict()
    for name, module in network.named_children():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # also SyncBatchNorm
            conv = name.removesuffix("_bn")
            assert module.running_mean is not None
            assert module.running_var is not None
            gain = module.weight * torch.rsqrt(module.running_var + module.eps)
            state[f"{conv}.weight"] = state[f"{conv}.weight"] * gain[:, None, None, None]
            state[f"{conv}.bias"] = (state[f"{conv}.bias"] - module.running_mean) * gain + module.bias
    plain.load_state_dict({key: value for key, value in state.items() if "_bn." not in key})
    return plain.eval()


def _dense_names(network: FCN) -> frozenset[str]:
    deconvolutions = ((n, m) for n, m in network.named_children() if isinstance(m, nn.ConvTranspose2d))
    return frozenset(n for n, m in deconvolutions if m.groups == 1 and m.in_channels > 1)
