"""Writes the release's networks as Caffe definitions (prototxt), for tests.

Everything is written out again from the authors' definitions, with numbers typed in: paddings, kernels, crop
offsets, names. Nothing comes from `fcnseg.models`, so a run of these definitions by another implementation
checks what is derived there. The layers' channels pass through `narrow`, so that small networks of the same
form exist.

GoogLeNet has no released definition. Its crop offset of 98 follows by hand: conv1 is 7 wide and pads 100, so
its samples begin at pixel 3 - 100 = -97; the four pools (3 wide, over steps of 2, 4, 8 and 16 px) add
2 + 4 + 8 + 16, which gives -67; half of the 63-wide deconvolution, 31, takes it to -98.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Shape = tuple[int, ...]
Narrow = Callable[[int], int]

VGG_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))

INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@dataclass
class Definition:
    """A network as Caffe would read it.

    `blobs` are the shapes of each layer's weights in Caffe's order, `types` the layers' types; `inputs` the
    names of the inputs; `outputs` the tops that hold the scores, one a head.
    """

    narrow: Narrow
    fc: int
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    blobs: dict[str, tuple[Shape, ...]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    _layers: list[str] = field(default_factory=list)
    _channels: dict[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The prototxt. Inputs have no shape, so that one definition serves every image size."""
        return "\n".join(['name: "net"', *(f'input: "{name}"' for name in self.inputs), *self._layers, ""])

    def input(self, name: str, channels: int) -> str:
        self.inputs.append(name)
        self._channels[name] = channels
        return name

    def _layer(self, kind: str, name: str, bottoms: tuple[str, ...], body: str = "", top: str = "") -> str:
        bottom = " ".join(f'bottom: "{b}"' for b in bottoms)
        text = f'name: "{name}" type: "{kind}" {bottom} top: "{top or name}" {body}'
        self._layers.append(f"layer {{ {text} }}")
        self.types[name] = kind
        self._channels.setdefault(top or name, self._channels[bottoms[0]])
        return top or name

    def conv(self, name: str, bottom: str, channels: int, kernel: int, pad: int = 0, **more: int) -> str:
        """`more`: `stride`, `group`."""
        self.blobs[name] = (
            (channels, self._channels[bottom] // more.get("group", 1), kernel, kernel),
            (channels,),
        )
        self._channels[name] = channels
        extra = " ".join(f"{key}: {value}" for key, value in more.items())
        parameters = f"num_output: {channels} pad: {pad} kernel_size: {kernel} {extra}"
        return self._layer("Convolution", name, (bottom,), f"convolution_param {{ {parameters} }}")

    def conv_relu(self, name: str, bottom: str, channels: int, kernel: int, pad: int = 0, **more: int) -> str:
        """A convolution of narrowed width and the rectification after it, in place."""
        top = self.conv(name, bottom, self.narrow(channels), kernel, pad, **more)
        return self._layer("ReLU", f"relu_{name}", (top,), top=top)

    def fully_connected(self, name: str, bottom: str, kernel: int) -> str:
        top = self.conv(name, bottom, self.fc, kernel)
        self._layer("ReLU", f"relu_{name}", (top,), top=top)
        return self._layer("Dropout", f"drop_{name}", (top,), "dropout_param { dropout_ratio: 0.5 }", top=top)

    def pool(self, name: str, bottom: str, kernel: int, stride: int, pad: int = 0) -> str:
        parameters = f"pool: MAX kernel_size: {kernel} stride: {stride} pad: {pad}"
        return self._layer("Pooling", name, (bottom,), f"pooling_param {{ {parameters} }}")

    def normalise(self, name: str, bottom: str) -> str:
        return self._layer("LRN", name, (bottom,), "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def scale(self, name: str, bottom: str) -> str:
        self.blobs[name] = ((self._channels[bottom],),)
        return self._layer("Scale", name, (bottom,))

    def concatenate(self, name: str, bottoms: tuple[str, ...]) -> str:
        self._channels[name] = sum(self._channels[b] for b in bottoms)
        return self._layer("Concat", name, bottoms)

    def deconv(self, name: str, bottom: str, kernel: int, stride: int) -> str:
        """One dense blob over all classes and no bias, as in the release."""
        classes = self._channels[bottom]
        self.blobs[name] = ((classes, classes, kernel, kernel),)
        parameters = f"num_output: {classes} bias_term: false kernel_size: {kernel} stride: {stride}"
        return self._layer("Deconvolution", name, (bottom,), f"convolution_param {{ {parameters} }}")

    def crop(self, name: str, bottom: str, like: str, offset: int) -> str:
        return self._layer("Crop", name, (bottom, like), f"crop_param {{ axis: 2 offset: {offset} }}")

    def add(self, name: str, bottoms: tuple[str, str], weights: str = "") -> str:
        return self._layer("Eltwise", name, bottoms, f"eltwise_param {{ operation: SUM {weights} }}")


# ---------------------------------------------------------------------- trunks


def vgg16(net: Definition, data: str, suffix: str = "", first: str | None = None) -> str:
    """Convolutions and fully connected layers; returns the last top. `pool3` and `pool4` are tops too."""
    x = data
    for block, (convolutions, channels) in enumerate(VGG_BLOCKS, start=1):
        for index in range(1, convolutions + 1):
            is_first = (block, index) == (1, 1)
            name = first if is_first and first else f"conv{block}_{index}{suffix}"
            x = net.conv_relu(name, x, channels, 3, 100 if is_first else 1)
        x = net.pool(f"pool{block}{suffix}", x, 2, 2)
    x = net.fully_connected(f"fc6{suffix}", x, 7)
    return net.fully_connected(f"fc7{suffix}", x, 1)


def alexnet(net: Definition, data: str) -> str:
    x = net.conv_relu("conv1", data, 96, 11, 100, stride=4)
    x = net.normalise("norm1", net.pool("pool1", x, 3, 2))
    x = net.conv_relu("conv2", x, 256, 5, 2, group=2)
    x = net.normalise("norm2", net.pool("pool2", x, 3, 2))
    x = net.conv_relu("conv3", x, 384, 3, 1)
    x = net.conv_relu("conv4", x, 384, 3, 1, group=2)
    x = net.conv_relu("conv5", x, 256, 3, 1, group=2)
    x = net.pool("pool5", x, 3, 2)
    x = net.fully_connected("fc6", x, 6)
    return net.fully_connected("fc7", x, 1)


def googlenet(net: Definition, data: str) -> str:
    x = net.conv_relu("conv1/7x7_s2", data, 64, 7, 100, stride=2)
    x = net.normalise("pool1/norm1", net.pool("pool1/3x3_s2", x, 3, 2))
    x = net.conv_relu("conv2/3x3_reduce", x, 64, 1)
    x = net.conv_relu("conv2/3x3", x, 192, 3, 1)
    x = net.pool("pool2/3x3_s2", net.normalise("conv2/norm2", x), 3, 2)
    for module in INCEPTIONS:
        x = _inception(net, f"inception_{module}", x, INCEPTIONS[module])
        if module in ("3b", "4e"):
            x = net.pool(f"pool{module[0]}/3x3_s2", x, 3, 2)
    return x


def _inception(net: Definition, name: str, x: str, channels: tuple[int, int, int, int, int, int]) -> str:
    one, three_reduce, three, five_reduce, five, projection = channels
    branches = (
        net.conv_relu(f"{name}/1x1", x, one, 1),
        net.conv_relu(f"{name}/3x3", net.conv_relu(f"{name}/3x3_reduce", x, three_reduce, 1), three, 3, 1),
        net.conv_relu(f"{name}/5x5", net.conv_relu(f"{name}/5x5_reduce", x, five_reduce, 1), five, 5, 2),
        net.conv_relu(f"{name}/pool_proj", net.pool(f"{name}/pool", x, 3, 1, 1), projection, 1),
    )
    return net.concatenate(f"{name}/output", branches)


# ---------------------------------------------------------------------- heads


def head_32s(
    net: Definition,
    top: str,
    classes: int,
    suffix: str = "",
    kernel: int = 64,
    offset: int = 19,
) -> None:
    score = net.conv(f"score_fr{suffix}", top, classes, 1)
    _finish(net, net.deconv(f"upscore{suffix}", score, kernel, 32), suffix, offset)


def head_16s(net: Definition, top: str, classes: int, suffix: str = "") -> None:
    fused = _fuse_pool4(net, top, classes, suffix, "pool4")
    _finish(net, net.deconv(f"upscore16{suffix}", fused, 32, 16), suffix, 27)


def head_8s(net: Definition, top: str, classes: int, suffix: str = "", scaled: bool = False) -> None:
    pool4 = net.scale("scale_pool4", "pool4") if scaled else "pool4"
    x = net.deconv(f"upscore_pool4{suffix}", _fuse_pool4(net, top, classes, suffix, pool4), 4, 2)
    pool3 = net.scale("scale_pool3", "pool3") if scaled else "pool3"
    score = net.conv(f"score_pool3{suffix}", pool3, classes, 1)
    x = net.add(f"fuse_pool3{suffix}", (x, net.crop(f"score_pool3{suffix}c", score, x, 9)))
    _finish(net, net.deconv(f"upscore8{suffix}", x, 16, 8), suffix, 31)


def _fuse_pool4(net: Definition, top: str, classes: int, suffix: str, pool4: str) -> str:
    x = net.deconv(f"upscore2{suffix}", net.conv(f"score_fr{suffix}", top, classes, 1), 4, 2)
    score = net.conv(f"score_pool4{suffix}", pool4, classes, 1)
    return net.add(f"fuse_pool4{suffix}", (x, net.crop(f"score_pool4{suffix}c", score, x, 5)))


def _finish(net: Definition, upscore: str, suffix: str, offset: int) -> None:
    net.outputs.append(net.crop(f"score{suffix}", upscore, net.inputs[0], offset))


# ---------------------------------------------------------------------- networks

VGG_HEADS = {"32s": head_32s, "16s": head_16s, "8s": head_8s}
VGG_CLASSES = {"voc": {"": 21}, "pascalcontext": {"": 60}, "siftflow": {"_sem": 33, "_geo": 3}}


def _vgg_network(net: Definition, dataset: str, stride: str) -> None:
    top = vgg16(net, net.input("data", 3))
    for suffix, classes in VGG_CLASSES[dataset].items():
        VGG_HEADS[stride](net, top, classes, suffix)


def _voc_fcn8s_atonce(net: Definition) -> None:
    head_8s(net, vgg16(net, net.input("data", 3)), 21, scaled=True)


def _voc_fcn_alexnet(net: Definition) -> None:
    head_32s(net, alexnet(net, net.input("data", 3)), 21, kernel=63, offset=18)


def _voc_fcn_googlenet(net: Definition) -> None:
    head_32s(net, googlenet(net, net.input("data", 3)), 21, kernel=63, offset=98)


def _nyud_color_d(net: Definition) -> None:
    head_32s(net, vgg16(net, net.input("data", 4), first="conv1_1_bgrd"), 40)


def _nyud_color_hha(net: Definition) -> None:
    data = {name: net.input(name, 3) for name in ("color", "hha")}
    color, hha = (net.conv(f"score_fr{name}", vgg16(net, data[name], name), 40, 1) for name in data)
    fused = net.add("score_fused", (color, hha), "coeff: 0.5 coeff: 0.5")
    _finish(net, net.deconv("upscore", fused, 64, 32), "", 19)


NETWORKS: dict[str, Callable[[Definition], None]] = {
    "voc-fcn32s": lambda net: _vgg_network(net, "voc", "32s"),
    "voc-fcn16s": lambda net: _vgg_network(net, "voc", "16s"),
    "voc-fcn8s": lambda net: _vgg_network(net, "voc", "8s"),
    "voc-fcn8s-atonce": _voc_fcn8s_atonce,
    "voc-fcn-alexnet": _voc_fcn_alexnet,
    "voc-fcn-googlenet": _voc_fcn_googlenet,
    "pascalcontext-fcn32s": lambda net: _vgg_network(net, "pascalcontext", "32s"),
    "pascalcontext-fcn16s": lambda net: _vgg_network(net, "pascalcontext", "16s"),
    "pascalcontext-fcn8s": lambda net: _vgg_network(net, "pascalcontext", "8s"),
    "nyud-fcn32s-color": lambda net: head_32s(net, vgg16(net, net.input("data", 3)), 40),
    "nyud-fcn32s-hha": lambda net: head_32s(net, vgg16(net, net.input("data", 3)), 40),
    "nyud-fcn32s-color-d": _nyud_color_d,
    "nyud-fcn32s-color-hha": _nyud_color_hha,
    "siftflow-fcn32s": lambda net: _vgg_network(net, "siftflow", "32s"),
    "siftflow-fcn16s": lambda net: _vgg_network(net, "siftflow", "16s"),
    "siftflow-fcn8s": lambda net: _vgg_network(net, "siftflow", "8s"),
}
"""Every network of the release, and the GoogLeNet one of the paper's table 1, by the recipe's name."""


def caffe_definition(name: str, narrow: Narrow = lambda channels: channels, fc: int = 4096) -> Definition:
    """The definition of a recipe's network.

    `narrow` maps a trunk layer's published channels to those wanted; `fc` is the width of fc6 and fc7.
    """
    net = Definition(narrow, fc)
    NETWORKS[name](net)
    return net
