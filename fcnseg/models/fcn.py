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

from fcnseg.errors import SettingsError
from fcnseg.models.backbones import Conv, Inception, Layer, LocalResponseNorm, MaxPool, backbone_layers, grids
from fcnseg.models.geometry import Window
from fcnseg.models.spec import Head, NetworkSpec, Stream, plan_fusion


def bilinear_kernel(size: int) -> Tensor:
    """Return the size x size kernel that makes a deconvolution of stride ceil(size / 2) interpolate bilinearly."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    taps = 1 - (torch.arange(size, dtype=torch.float32) - centre).abs() / factor
    return taps[:, None] * taps[None, :]


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
        for stream in spec.streams:
            self._add_trunk(stream)
        for head in spec.heads:
            self._add_deconvolutions(head, dense_deconvolutions)

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
        x = x.to(next(self._layer(self._first_name(stream)).parameters()).dtype)
        for index, layer in enumerate(self.layers):
            x = self._run(layer, self._first_name(stream) if index == 0 else layer.name + stream.suffix, x)
            if layer.name in self.spec.skips:
                taps[layer.name] = x
        taps["fr"] = x
        return {name: tap.float() for name, tap in taps.items()}

    def _run(self, layer: Layer, name: str, x: Tensor) -> Tensor:
        if isinstance(layer, Conv):
            conv = self._layer(name)
            if layer.window.pad > layer.window.kernel // 2:
                assert isinstance(conv, nn.Conv2d)
                x = F.conv2d(_with_margins(x, layer.window), conv.weight, conv.bias, conv.stride, groups=conv.groups)
            else:
                x = conv(x)
            if self.spec.batch_norm:
                x = self._layer(f"{name}_bn")(x)
            x = F.relu(x, inplace=True)
            return F.dropout(x, 0.5, self.training) if layer.fully_connected else x
        if isinstance(layer, MaxPool):
            window = layer.window
            return F.max_pool2d(x, window.kernel, window.stride, window.pad, ceil_mode=True)
        if isinstance(layer, LocalResponseNorm):
            # in float32: torch has no other for it, and the squares of large activations need the range
            return F.local_response_norm(x.float(), size=5, alpha=1e-4, beta=0.75, k=1.0).to(x.dtype)
        suffix = name.removeprefix(layer.name)
        outputs = []
        for branch in layer.branches:
            y = x
            for part in branch:
                y = self._run(part, part.name + suffix, y)
            outputs.append(y)
        return torch.cat(outputs, dim=1)

    # ------------------------------------------------------------------ fusion

    def fuse(self, head: Head, taps: list[dict[str, Tensor]], size: tuple[int, int] | torch.Size) -> Tensor:
        """Return one head's scores at `size`: upsample, crop to the skip layer, add, and so on up to the image."""
        x = self._score("fr", head, taps)
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

    # ------------------------------------------------------------------ construction

    def _add_layer(self, name: str, module: nn.Module) -> None:
        """Add a layer. Raises SettingsError for a name that is taken: two suffixes of a recipe may meet in one."""
        if hasattr(self, name):
            raise SettingsError(f"{name} is the name of two layers; change first_layer or a suffix in the recipe")
        self.add_module(name, module)

    def _layer(self, name: str) -> nn.Module:
        return self._modules[name]  # type: ignore[return-value]

    def _first_name(self, stream: Stream) -> str:
        return stream.first_layer or self.layers[0].name + stream.suffix

    def _channels(self, layer: Conv) -> int:
        """Return the channels of a convolution at this width, an even number, so that groups divide them."""
        if layer.fully_connected:
            return self.spec.fc_width
        return max(2, 2 * round(layer.channels * self.spec.width / 2))

    def _add_trunk(self, stream: Stream) -> None:
        channels = stream.channels
        for index, layer in enumerate(self.layers):
            suffix_name = self._first_name(stream) if index == 0 else layer.name + stream.suffix
            if isinstance(layer, Conv):
                channels = self._add_conv(suffix_name, layer, channels)
            elif isinstance(layer, Inception):
                channels = self._add_inception(layer, stream.suffix, channels)
            if layer.name in self.spec.skips:
                self._add_scores(layer.name, stream, channels)
        self._add_scores("fr", stream, channels)

    def _add_conv(self, name: str, layer: Conv, channels_in: int) -> int:
        channels, window = self._channels(layer), layer.window
        conv = nn.Conv2d(channels_in, channels, window.kernel, window.stride, window.pad, groups=layer.groups)
        if not conv.weight.is_meta:  # nothing to fill, and arithmetic on meta tensors costs seconds of imports
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self._add_layer(name, conv)
        if self.spec.batch_norm:
            self._add_layer(f"{name}_bn", nn.BatchNorm2d(channels))
        return channels

    def _add_inception(self, layer: Inception, suffix: str, channels_in: int) -> int:
        total = 0
        for branch in layer.branches:
            channels = channels_in
            for part in branch:
                if isinstance(part, Conv):
                    channels = self._add_conv(part.name + suffix, part, channels)
            total += channels
        return total

    def _add_scores(self, tap: str, stream: Stream, channels: int) -> None:
        """Score layers start at zero: a new skip changes nothing until it is trained (paper, section 4.2)."""
        if tap in self.spec.skip_scales:
            self._add_layer(f"scale_{tap}{stream.suffix}", ChannelScale(channels, self.spec.skip_scales[tap]))
        for head in self.spec.heads:
            score = nn.Conv2d(channels, head.classes, 1)
            nn.init.zeros_(score.weight)
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]
            self._add_layer(f"score_{tap}{stream.suffix}{head.suffix}", score)

    def _add_deconvolutions(self, head: Head, dense: frozenset[str]) -> None:
        for step in self.fusion:
            name, k = step.name + head.suffix, head.classes
            groups = 1 if name in dense else k
            kernel, stride = step.window.kernel, step.window.stride
            deconv = nn.ConvTranspose2d(k, k, kernel, stride, groups=groups, bias=False)
            if not deconv.weight.is_meta:
                mixing = torch.eye(k) if groups == 1 else torch.ones(k, 1)
                with torch.no_grad():
                    deconv.weight.copy_(mixing[:, :, None, None] * bilinear_kernel(kernel))
            self._add_layer(name, deconv)


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


def deconvolution_names(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the names of all deconvolution layers of a network."""
    return tuple(step.name + head.suffix for head in spec.heads for step in plan_fusion(spec))


def parameter_count(spec: NetworkSpec) -> int:
    """Count parameters as the paper's table 1 does: weights and biases of trunk and score layers, without the
    deconvolutions (fixed interpolation there) and the constant skip scales."""
    network = blank_network(spec)
    skipped = (*deconvolution_names(spec), *(n for n, m in network.named_children() if isinstance(m, ChannelScale)))
    return sum(p.numel() for name, p in network.named_parameters() if name.rpartition(".")[0] not in skipped)


def receptive_field_px(backbone: str, *, final_average_pool: bool = False) -> int:
    """Return the receptive field of a score at stride 32, as in the paper's table 1: 404, 355 and 715.

    The paper's 907 for GoogLeNet counts the classifier's last 7 x 7 average pool, which the FCN discards:
    `final_average_pool=True`.
    """
    layers = backbone_layers(backbone, "classifier")
    grid = grids(layers)[layers[-1].name]
    return (grid.after(Window(7)) if final_average_pool else grid).receptive_field_px


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
