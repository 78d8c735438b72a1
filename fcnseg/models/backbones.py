"""Backbones, as literal tables: the three ImageNet classifiers that the paper turns into FCNs, and dilated ResNets.

Each table is the classifier as published, layer by layer with Caffe's names, its fully connected layers already
convolutions (paper, section 3.1) and its own paddings. A `geometry` then sets the paddings:

- `caffe`: the first convolution pads 100, so that any image gives an output (the released weights);
- `same`: every window is centred on its input, no big padding: about half the arithmetic (nets trained here);
- `classifier`: as published for classification, for the equivalence at the heart of the paper.

Pooling rounds its output size up, as Caffe does; that of the ResNets rounds it down.

Sources: VGG-16: Simonyan & Zisserman 2014, table 1 D. AlexNet: Krizhevsky et al. 2012 in the BVLC version
(normalisation after pooling as the FCN release has it). GoogLeNet: Szegedy et al. 2014, table 1. ResNet: He et al.
2015, table 1, with the stride in the 3x3 and dilations in place of the last two strides, as torchvision's segmentation
networks have them; their batch normalisation is folded into the convolutions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from fcnseg.models.geometry import IMAGE, Grid, Window

Geometry = Literal["caffe", "same", "classifier"]

CAFFE_FIRST_PAD = 100


@dataclass(frozen=True)
class Conv:
    """A convolution, and the ReLU after it if `rectified`. After `fully_connected` ones comes dropout in training."""

    name: str
    channels: int
    window: Window
    groups: int = 1
    fully_connected: bool = False
    rectified: bool = True


@dataclass(frozen=True)
class MaxPool:
    """Max pooling, output size rounded up, or else down."""

    name: str
    window: Window
    rounds_up: bool = True


@dataclass(frozen=True)
class LocalResponseNorm:
    """AlexNet's normalisation across 5 channels: alpha 1e-4, beta 0.75."""

    name: str


@dataclass(frozen=True)
class Inception:
    """A GoogLeNet module: four branches side by side, concatenated.

    Channels of: the 1x1; the 3x3's reduction and the 3x3; the 5x5's reduction and the 5x5; the pool's projection.
    """

    name: str
    channels: tuple[int, int, int, int, int, int]

    @property
    def branches(self) -> tuple[tuple[Conv | MaxPool, ...], ...]:
        """The layers of each branch, in the order of concatenation, named as in Caffe's definition."""
        one, three_reduce, three, five_reduce, five, pool = self.channels

        def conv(suffix: str, channels: int, kernel: int = 1) -> Conv:
            return Conv(f"{self.name}/{suffix}", channels, Window(kernel, pad=kernel // 2))

        return (
            (conv("1x1", one),),
            (conv("3x3_reduce", three_reduce), conv("3x3", three, 3)),
            (conv("5x5_reduce", five_reduce), conv("5x5", five, 5)),
            (MaxPool(f"{self.name}/pool", Window(3, pad=1)), conv("pool_proj", pool)),
        )


@dataclass(frozen=True)
class Bottleneck:
    """A module of a ResNet: convolutions of 1x1, 3x3 (`window`) and 1x1, four times as many `channels`, added to the
    module's input and rectified. The input of a `projected` one passes a 1x1 convolution of the same stride.
    """

    name: str
    channels: int
    window: Window
    projected: bool

    @property
    def convolutions(self) -> tuple[Conv, Conv, Conv]:
        """The three convolutions in their order."""
        return (
            Conv(f"{self.name}_conv1", self.channels, Window(1)),
            Conv(f"{self.name}_conv2", self.channels, self.window),
            Conv(f"{self.name}_conv3", 4 * self.channels, Window(1), rectified=False),
        )

    @property
    def projection(self) -> Conv | None:
        """The convolution that the input passes, if any."""
        if not self.projected:
            return None
        return Conv(f"{self.name}_downsample", 4 * self.channels, Window(1, self.window.stride), rectified=False)


Layer = Conv | MaxPool | LocalResponseNorm | Inception | Bottleneck


def _vgg_block(block: int, convolutions: int, channels: int) -> tuple[Layer, ...]:
    names = (f"conv{block}_{i}" for i in range(1, convolutions + 1))
    return (*(Conv(n, channels, Window(3, pad=1)) for n in names), MaxPool(f"pool{block}", Window(2, 2)))


VGG16: tuple[Layer, ...] = (
    *_vgg_block(1, 2, 64),
    *_vgg_block(2, 2, 128),
    *_vgg_block(3, 3, 256),
    *_vgg_block(4, 3, 512),
    *_vgg_block(5, 3, 512),
    Conv("fc6", 4096, Window(7), fully_connected=True),
    Conv("fc7", 4096, Window(1), fully_connected=True),
)

ALEXNET: tuple[Layer, ...] = (
    Conv("conv1", 96, Window(11, 4)),
    MaxPool("pool1", Window(3, 2)),
    LocalResponseNorm("norm1"),
    Conv("conv2", 256, Window(5, pad=2), groups=2),
    MaxPool("pool2", Window(3, 2)),
    LocalResponseNorm("norm2"),
    Conv("conv3", 384, Window(3, pad=1)),
    Conv("conv4", 384, Window(3, pad=1), groups=2),
    Conv("conv5", 256, Window(3, pad=1), groups=2),
    MaxPool("pool5", Window(3, 2)),
    Conv("fc6", 4096, Window(6), fully_connected=True),
    Conv("fc7", 4096, Window(1), fully_connected=True),
)

GOOGLENET: tuple[Layer, ...] = (
    Conv("conv1/7x7_s2", 64, Window(7, 2, 3)),
    MaxPool("pool1/3x3_s2", Window(3, 2)),
    LocalResponseNorm("pool1/norm1"),
    Conv("conv2/3x3_reduce", 64, Window(1)),
    Conv("conv2/3x3", 192, Window(3, pad=1)),
    LocalResponseNorm("conv2/norm2"),
    MaxPool("pool2/3x3_s2", Window(3, 2)),
    Inception("inception_3a", (64, 96, 128, 16, 32, 32)),
    Inception("inception_3b", (128, 128, 192, 32, 96, 64)),
    MaxPool("pool3/3x3_s2", Window(3, 2)),
    Inception("inception_4a", (192, 96, 208, 16, 48, 64)),
    Inception("inception_4b", (160, 112, 224, 24, 64, 64)),
    Inception("inception_4c", (128, 128, 256, 24, 64, 64)),
    Inception("inception_4d", (112, 144, 288, 32, 64, 64)),
    Inception("inception_4e", (256, 160, 320, 32, 128, 128)),
    MaxPool("pool4/3x3_s2", Window(3, 2)),
    Inception("inception_5a", (256, 160, 320, 32, 128, 128)),
    Inception("inception_5b", (384, 192, 384, 48, 128, 128)),
)


def _dilated_resnet(modules: tuple[int, int, int, int]) -> tuple[Layer, ...]:
    """Return a ResNet of stride 8 with so many modules a stage, and the convolution before its score."""
    layers: list[Layer] = [Conv("conv1", 64, Window(7, 2, 3)), MaxPool("maxpool", Window(3, 2, 1), rounds_up=False)]
    for stage, (count, stride, dilation) in enumerate(zip(modules, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 1):
        for number in range(count):
            # the first module of a stage that is dilated keeps the dilation of the stage before
            taps = max(1, dilation // 2) if number == 0 else dilation
            window = Window(3, stride if number == 0 else 1, taps, taps)
            layers.append(Bottleneck(f"layer{stage}_{number}", 32 << stage, window, projected=number == 0))
    return (*layers, Conv("classifier_0", 512, Window(3, pad=1)))


BACKBONES: dict[str, tuple[Layer, ...]] = {
    "vgg16": VGG16,
    "alexnet": ALEXNET,
    "googlenet": GOOGLENET,
    "resnet50": _dilated_resnet((3, 4, 6, 3)),
    "resnet101": _dilated_resnet((3, 4, 23, 3)),
}

INTERPOLATED = frozenset({"resnet50", "resnet101"})
"""Backbones whose scores are interpolated to the image's size in one step, without deconvolutions."""

SKIPS: dict[str, dict[int, str]] = {
    "vgg16": {16: "pool4", 8: "pool3"},
    **{backbone: {} for backbone in ("alexnet", "googlenet", *INTERPOLATED)},
}
"""For each backbone, the layers that finer strides add: paper, section 4.2."""


@cache
def backbone_layers(backbone: str, geometry: Geometry) -> tuple[Layer, ...]:
    """Return the layers of `backbone` with the paddings of `geometry`."""
    layers = BACKBONES[backbone]
    if geometry == "same":
        return tuple(_centred(layer) for layer in layers)
    first = layers[0]
    if geometry == "caffe" and isinstance(first, Conv):
        return (replace(first, window=replace(first.window, pad=CAFFE_FIRST_PAD)), *layers[1:])
    return layers


def _centred(layer: Layer) -> Layer:
    """Pad a layer so that its output covers its input; an even fc6 pads enough to cover both borders."""
    if isinstance(layer, Conv):
        return replace(layer, window=replace(layer.window, pad=layer.window.span // 2))
    if isinstance(layer, MaxPool):
        return replace(layer, window=replace(layer.window, pad=(layer.window.kernel - 1) // 2))
    return layer


def windows(layer: Layer) -> Iterator[Window]:
    """Yield the windows on the widest path through a layer (in an inception module, the 5x5's; in a bottleneck, the
    3x3's)."""
    if isinstance(layer, Inception):
        yield Window(5, pad=2)
    elif not isinstance(layer, LocalResponseNorm):
        yield layer.window


def grids(layers: tuple[Layer, ...], start: Grid = IMAGE) -> dict[str, Grid]:
    """Return the grid of each layer's output, by the layer's name."""
    outputs: dict[str, Grid] = {}
    grid = start
    for layer in layers:
        for window in windows(layer):
            grid = grid.after(window)
        outputs[layer.name] = grid
    return outputs


def receptive_field_px(backbone: str, *, final_average_pool: bool = False) -> int:
    """Return the receptive field of a score at stride 32, as in the paper's table 1: 404, 355 and 715.

    The paper's 907 for GoogLeNet counts the classifier's last 7 x 7 average pool, which the FCN discards:
    `final_average_pool=True`.
    """
    layers = backbone_layers(backbone, "classifier")
    grid = grids(layers)[layers[-1].name]
    return (grid.after(Window(7)) if final_average_pool else grid).receptive_field_px
