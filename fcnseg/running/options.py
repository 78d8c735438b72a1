"""Options of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fcnseg.engine.options import EngineOptions
from fcnseg.errors import SettingsError
from fcnseg.running.records import is_hdf5


@dataclass(frozen=True)
class RunOptions:
    """All options of a run. The source, the model and the kinds of output are its settings: they cannot change while an
    output folder is filled.

    `source`: a folder, an image, a list of paths ("-": on standard input), an archive, or `FILE.h5::/dataset`.
    `companions`: folders or HDF5 datasets of further modalities ("depth", "hha"). `glob` chooses images, `layout` tells
    the axes of HDF5 datasets (auto, NHWC, NCHW). Images of more than `max_pixels` are refused.

    `out`, `probabilities`: a folder or an HDF5 file; `overlay`: a folder. `probabilities_dtype`: float16 or float32.
    `top_k`: the probabilities of so many classes alone. `opacity` of overlays: 0 (the image) to 1 (the colours).

    `tile`: "auto", "off", or the side of tiles in pixels. `batch`: images of one size at once. `workers`: threads that
    decode, and as many that write. None leaves a number to fcnseg.

    `resume`: "auto" goes on where the same settings on the same machine left off, "continue" also after libraries or
    hardware changed, "overwrite" starts over. `retry_failed` tries again what failed in earlier runs. The run stops
    after more than `max_failures`. `num_parts` and `part_id`: only that part of the inputs, from 0. `space_check`:
    refuse to start if the outputs cannot have room.
    """

    source: str | Path
    out: Path
    engine: EngineOptions = field(default_factory=EngineOptions)
    companions: Mapping[str, str | Path] = field(default_factory=dict)
    glob: str | None = None
    layout: str = "auto"
    probabilities: Path | None = None
    probabilities_dtype: str = "float16"
    top_k: int | None = None
    overlay: Path | None = None
    opacity: float = 0.5
    tile: str | int = "auto"
    batch: int | None = None
    workers: int | None = None
    max_pixels: int | None = None
    resume: str = "auto"
    retry_failed: bool = False
    max_failures: int | None = None
    num_parts: int = 1
    part_id: int = 0
    space_check: bool = True

    def __post_init__(self) -> None:
        for name in ("out", "probabilities", "overlay"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))


def check_options(options: RunOptions) -> None:
    """Raise SettingsError that names every value no run can have."""
    faults = []
    if options.probabilities_dtype not in ("float16", "float32"):
        faults.append(f"probabilities dtype {options.probabilities_dtype!r} is unknown; use float16 or float32")
    if options.resume not in ("auto", "continue", "overwrite"):
        faults.append(f"resume {options.resume!r} is unknown; use auto, continue or overwrite")
    if not 0 <= options.part_id < options.num_parts:
        faults.append(f"--part-id {options.part_id} is not one of 0 to {options.num_parts - 1} (--num-parts)")
    if options.top_k is not None and options.probabilities is None:
        faults.append("--top-k says which probabilities to keep; give --save-probabilities too")
    places = [os.path.realpath(p) for p in (options.out, options.probabilities) if p is not None and is_hdf5(p)]
    if len(set(places)) < len(places):
        faults.append(f"{places[0]} cannot hold both labels and probabilities; give two files")
    if options.num_parts > 1 and any(is_hdf5(path) for path in (options.out, options.probabilities)):
        faults.append("the parts of a run cannot share one HDF5 file; give a folder, or a file for each part")
    if not (options.tile in ("auto", "off") or isinstance(options.tile, int)):
        faults.append(f"--tile {options.tile!r} is unknown; use auto, off or a size in pixels")
    if faults:
        raise SettingsError(". ".join(faults))
