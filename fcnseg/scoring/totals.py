"""The sums over pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fcnseg.scoring.calibration import BINS, Bins
from fcnseg.scoring.confusion import Counts
from fcnseg.scoring.counting import Fault, PairCounts


@dataclass
class Totals:
    """The sums over pairs. `images` holds hits, truth and predicted pixels, 3 x K each, `boundary` those of boundaries
    and `bands` those of bands of these widths, W x 3 x K; `variables` of `.mat` files were read."""

    classes: int
    widths: tuple[int, ...] = ()
    counts: Counts = field(init=False)
    images: dict[str, Counts] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    void: int = 0
    void_255: bool = False
    variables: set[str] = field(default_factory=set)
    boundary: Counts = field(init=False)
    bands: Counts = field(init=False)
    bins: Bins | None = None

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes), np.int64)
        self.boundary = np.zeros((3, self.classes), np.int64)
        self.bands = np.zeros((len(self.widths), 3, self.classes), np.int64)

    @property
    def names(self) -> set[str]:
        """The keys of all pairs that were looked at."""
        return {*self.images, *(fault.key for fault in self.faults)}

    def add(self, found: PairCounts | Fault) -> None:
        """Count one pair in, or note why not."""
        if isinstance(found, Fault):
            self.faults.append(found)
            return
        np.add.at(self.counts, (found.rows, found.columns), found.counts)
        self.images[found.key] = found.margins(self.classes)
        self.void += found.void
        self.void_255 |= found.void_255
        self.variables.add(found.variable)
        if found.boundary is not None and found.bands is not None:
            self.boundary += found.boundary
            self.bands += found.bands
        if found.bins is not None:
            self.add_bins(found.bins)

    def add_bins(self, bins: Bins) -> None:
        """Count bins of confidence in."""
        self.bins = bins + (np.zeros((3, BINS)) if self.bins is None else self.bins)

    def sort(self) -> None:
        """Order images and faults by their keys, in whatever order they came."""
        self.images = dict(sorted(self.images.items()))
        self.faults.sort(key=lambda fault: fault.key)
