"""Sample positions of feature maps in the image: strides, crop offsets and receptive fields.

Every layer of an FCN is a sliding window (convolution, pooling) or its transpose (deconvolution), so each feature
map is a regular grid over the image. A `Grid` follows it through the layers, and every offset and kernel of the
networks is derived from grids instead of typed in. Both axes are alike, so one is enough.

Source: Long, Shelhamer & Darrell 2015, section 3; the arithmetic is that of Caffe's coordinate maps.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self


@dataclass(frozen=True)
class Window:
    """A sliding window along one axis: `kernel`, `stride` and zero `pad` on either side, in samples; `dilation` is the
    distance of its taps."""

    kernel: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    @property
    def span(self) -> int:
        """The samples from its first tap to its last."""
        return self.dilation * (self.kernel - 1) + 1


@dataclass(frozen=True)
class Grid:
    """The samples of a feature map: sample `i` is centred on image coordinate `origin_px + step_px * i`.

    `receptive_field_px` is the side of the square of image pixels that a sample depends on.
    """

    step_px: Fraction = Fraction(1)
    origin_px: Fraction = Fraction(0)
    receptive_field_px: int = 1

    def after(self, window: Window) -> Self:
        """Return the grid of the output of a convolution or pooling `window` over this one."""
        return type(self)(
            self.step_px * window.stride,
            self.origin_px + self.step_px * (Fraction(window.span - 1, 2) - window.pad),
            self.receptive_field_px + int((window.span - 1) * self.step_px),
        )

    def upsampled(self, window: Window) -> Self:
        """Return the grid of the output of a deconvolution (transposed convolution) `window` over this one.

        Its receptive field is that of one sample of this grid; a sample of the output mixes a few of them.
        """
        step_px = self.step_px / window.stride
        origin_px = self.origin_px - step_px * (Fraction(window.kernel - 1, 2) - window.pad)
        return type(self)(step_px, origin_px, self.receptive_field_px)

    def offset_of(self, other: Self) -> Fraction:
        """Return the (fractional) index in this grid of the other grid's sample 0: the start of a crop to `other`."""
        if self.step_px != other.step_px:
            raise ValueError(f"grids of different steps: {self.step_px} and {other.step_px} px")
        return (other.origin_px - self.origin_px) / self.step_px


IMAGE = Grid()


def crop_offset(source: Grid, target: Grid) -> int:
    """Return the samples to crop from the start of `source` so that it lies on `target`; negative: crop `target`.

    Raises ValueError if the two never coincide (an offset that is not whole).
    """
    offset = source.offset_of(target)
    if offset.denominator != 1:
        raise ValueError(f"the maps never align: the offset is {offset} samples")
    return int(offset)


def upsampling_window(grid: Grid, factor: int, target: Grid) -> Window:
    """Return the window of the bilinear deconvolution by `factor` whose output lies on `target`.

    Its kernel is 2 x factor, or one less where only an odd kernel aligns (the 63 of FCN-AlexNet).
    """
    for kernel in (2 * factor, 2 * factor - 1):
        window = Window(kernel, factor)
        if grid.upsampled(window).offset_of(target).denominator == 1:
            return window
    raise ValueError(f"no bilinear kernel aligns a map of step {grid.step_px} px with its target")
