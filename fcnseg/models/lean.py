"""The same networks with less to do, for devices whose libraries are fastest with few large steps."""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcnseg.models.fcn import FCN
from fcnseg.models.layers import bilinear_kernel, trunk_names
from fcnseg.models.margins import applies
from fcnseg.models.spec import Stream
from fcnseg.models.windowed import Surroundings, WindowedTrunk

SIZES_KEPT = 32
"""The image sizes whose surroundings are kept; of VOC's they take 5 MB each in half precision."""


class Interpolation(nn.Module):
    """The deconvolution of each class alone by a bilinear kernel twice its stride, which is even.

    Each sample is one sum of four products, in the same order whatever the size of map or batch; libraries choose among
    algorithms for deconvolutions by both.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return N x K x (h + 1) s x (w + 1) s of N x K x h x w, with zeros beyond its borders."""
        x = F.pad(x.contiguous(), (1, 1, 1, 1))
        size = [cells * self.stride for cells in x.shape[-2:]]
        x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        half = self.stride // 2
        return x[..., half:-half, half:-half]


class LeanFCN(FCN):
    """A network that gives the same scores, to float rounding, by fewer operations.

    The blank margins of `caffe` geometry are not computed (see `models.windowed`), and deconvolutions that interpolate
    are interpolations. `surroundings` belong to the weights as they were at the first image of a size.
    """

    @classmethod
    def of(cls, network: FCN) -> Self:
        """Return the network's weights, which are not copied, in a lean network in evaluation mode."""
        dense = frozenset(
            name
            for name, module in network.named_children()
            if isinstance(module, nn.ConvTranspose2d) and module.groups == 1 and module.in_channels > 1
        )
        with torch.device("meta"):
            lean = cls(network.spec, dense)
        lean.load_state_dict(network.state_dict(), assign=True)
        for name, module in network.named_children():
            if isinstance(module, nn.ConvTranspose2d) and _interpolates(module):
                setattr(lean, name, Interpolation(module.stride[0]))
        lean._windowed = [WindowedTrunk(lean, stream) for stream in lean.spec.streams] if applies(lean.spec) else []
        lean._surroundings = OrderedDict()
        return lean.eval().requires_grad_(False)

    _windowed: list[WindowedTrunk]
    _surroundings: OrderedDict[tuple[int, int], tuple[Surroundings, ...]]

    def surroundings(self, height: int, width: int) -> tuple[Surroundings, ...]:
        """Return what surrounds an image of that size, one a stream; none where there are no margins.

        The last SIZES_KEPT are kept; whoever reads them later than the next call must hold them.
        """
        size = (height, width)
        if size not in self._surroundings:
            self._surroundings[size] = tuple(trunk.surroundings(*size) for trunk in self._windowed)
            if len(self._surroundings) > SIZES_KEPT:
                self._surroundings.popitem(last=False)
        self._surroundings.move_to_end(size)
        return self._surroundings[size]

    def trunk(self, stream: Stream, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps that score layers read; see `FCN.trunk`."""
        if not self._windowed:
            return super().trunk(stream, x)
        number, names = self.spec.streams.index(stream), trunk_names(self.spec, stream)
        windowed = self._windowed[number]
        x = x.to(next(self.get_submodule(names[self.layers[0].name]).parameters()).dtype)
        height, width = x.shape[-2:]
        taps = windowed(x, self.surroundings(height, width)[number])
        x = taps[windowed.last]
        for layer in windowed.rest:
            x = self.run(layer, names[layer.name], x)
        taps["fr"] = x
        return {name: taps[name].float() for name in (*self.spec.skips, "fr")}


def _interpolates(deconvolution: nn.ConvTranspose2d) -> bool:
    """Tell whether a deconvolution is an `Interpolation`."""
    weight, (stride, _) = deconvolution.weight, deconvolution.stride
    kernel = torch.from_numpy(bilinear_kernel(weight.shape[-1])).to(weight)
    alone = weight.shape[1] == 1 and deconvolution.groups == weight.shape[0]
    return alone and weight.shape[-1] == 2 * stride and stride % 2 == 0 and bool((weight == kernel).all())
