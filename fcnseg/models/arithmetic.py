"""The operations that a network asks for. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator

from fcnseg.models.backbones import Bottleneck, Conv, Inception, Layer, LocalResponseNorm, MaxPool, backbone_layers
from fcnseg.models.geometry import Window
from fcnseg.models.layers import WeightLayer, trunk_names, weight_layers
from fcnseg.models.margins import computed_cells
from fcnseg.models.spec import NetworkSpec, plan_fusion

Size = tuple[int, int]


def network_gflop(spec: NetworkSpec, height: int, width: int) -> float:
    """Count 10^9 operations of one image: multiplications and additions of all convolutions and deconvolutions.

    Deconvolutions count as the release defines them, each class from all classes, whatever an engine makes of them.
    """
    layers = {layer.name: layer for layer in weight_layers(spec)}
    return sum(_operations(layers[name], cells) for name, cells in _cells(spec, (height, width))) / 1e9


def computed_gflop(
    spec: NetworkSpec, height: int, width: int, *, windowed: bool = False, coarse: bool = False
) -> float:
    """Count 10^9 operations that an engine does for one image: deconvolutions of each class alone, where they are.

    `windowed`: without the blank margins (see `margins`). `coarse`: without the last upsampling, of which most is not
    computed where labels are made of coarse scores.
    """
    layers = {layer.name: layer for layer in weight_layers(spec)}
    cells = dict(_cells(spec, (height, width)))
    if windowed:
        computed = computed_cells(backbone_layers(spec.backbone, spec.geometry), height, width)
        for stream in spec.streams:
            cells |= {trunk_names(spec, stream)[layer]: count for layer, count in computed.items()}
    if coarse:
        cells |= {step.name + head.suffix: 0 for step in plan_fusion(spec)[-1:] for head in spec.heads}
    return sum(_operations(layers[name], count, layers[name].groups) for name, count in cells.items()) / 1e9


def feature_values(spec: NetworkSpec, height: int, width: int) -> int:
    """Estimate the values of the feature maps of one image that a backward pass keeps: those of convolutions, and more
    than half as many for pooling and normalisation (VGG-16 has 1.4 times in all, AlexNet 2.5 times)."""
    layers = {layer.name: layer for layer in weight_layers(spec)}
    values = sum(layers[name].channels * cells for name, cells in _cells(spec, (height, width)))
    return int(values * 1.6)


def _operations(layer: WeightLayer, cells: int, groups: int | None = None) -> int:
    """Two for each number of a kernel at each place that it is put: cells of a convolution's output, of a
    deconvolution's input."""
    groups = groups or (1 if layer.kind == "deconvolution" else layer.groups)
    return 2 * layer.channels_in // groups * layer.channels * layer.window.kernel**2 * cells


def _cells(spec: NetworkSpec, image: Size) -> Iterator[tuple[str, int]]:
    """Yield the name of each convolution and deconvolution with the cells that it computes or spreads."""
    sizes: dict[str, Size] = {}
    for stream in spec.streams:
        names, size = trunk_names(spec, stream), image
        for layer in backbone_layers(spec.backbone, spec.geometry):
            if isinstance(layer, Inception):
                parts = [part.name for branch in layer.branches for part in branch if isinstance(part, Conv)]
                yield from ((part + stream.suffix, size[0] * size[1]) for part in parts)
            before, size = size, _after(layer, size)
            if isinstance(layer, Bottleneck):
                first, *others = layer.convolutions
                yield first.name + stream.suffix, before[0] * before[1]
                others += [layer.projection] if layer.projection else []
                yield from ((part.name + stream.suffix, size[0] * size[1]) for part in others)
            if isinstance(layer, Conv):
                yield names[layer.name], size[0] * size[1]
            sizes[layer.name] = size
        sizes["fr"] = size
        for head in spec.heads:
            for tap in ("fr", *spec.skips):
                yield f"score_{tap}{stream.suffix}{head.suffix}", sizes[tap][0] * sizes[tap][1]
    for head in spec.heads:
        size = sizes["fr"]
        for step in plan_fusion(spec):
            yield step.name + head.suffix, size[0] * size[1]
            upsampled = tuple((n - 1) * step.window.stride + step.window.kernel for n in size)
            size = sizes[step.target] if step.target and step.offset >= 0 else upsampled  # type: ignore[assignment]


def _after(layer: Layer, size: Size) -> Size:
    """Return the size of a layer's output; pooling rounds it up."""
    if isinstance(layer, Conv | MaxPool):
        up = isinstance(layer, MaxPool) and layer.rounds_up
        return tuple(_cells_along(n, layer.window, up=up) for n in size)  # type: ignore[return-value]
    if isinstance(layer, Bottleneck):
        return tuple(_cells_along(n, layer.window, up=False) for n in size)  # type: ignore[return-value]
    assert isinstance(layer, Inception | LocalResponseNorm)  # of stride 1
    return size


def _cells_along(size: int, window: Window, *, up: bool) -> int:
    spare = window.stride - 1 if up else 0
    return (size + 2 * window.pad - window.span + spare) // window.stride + 1
