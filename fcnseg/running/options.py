"""What a run is asked to do, and who listens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fcnseg.engine.options import BuildHooks, EngineOptions
from fcnseg.errors import SettingsError
from fcnseg.io.suffixes import HDF5, has_suffix
from fcnseg.types import EngineInfo, Failure, StageTimes


@dataclass(frozen=True)
class RunOptions:
    """Everything about a run. `source`, `out`, the model and what is written make its settings: they cannot change
    while an output folder is filled.

    `source` is a folder, an image, a list, an archive or `FILE.h5::/dataset` ("-": paths on standard input). `out`
    and `probabilities` are folders or HDF5 files. `resume`: "auto" goes on where the same settings on the same machine
    left off, "continue" also after library or hardware changes, "overwrite" starts over. `tile` is "auto", "off" or
    the side of tiles in pixels. None leaves a number to fcnseg. Without `space_check` a run starts even if its outputs
    cannot have room.
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


@dataclass(frozen=True)
class Hooks:
    """What a caller may listen to, from any thread: the building of an engine; the number of inputs while they are
    listed; the inputs of this part and the engine, before the start; the stages' times, once they run; every input as
    it ends or is found done; a line worth saying; what failed in an earlier run and is not tried again."""

    build: BuildHooks = field(default_factory=BuildHooks)
    on_listing: Callable[[int], None] = lambda count: None
    on_start: Callable[[int, EngineInfo], None] = lambda total, info: None
    on_stages: Callable[[Callable[[], dict[str, StageTimes]]], None] = lambda times: None
    on_result: Callable[[str, Failure | None], None] = lambda key, failure: None
    on_kept: Callable[[str], None] = lambda key: None
    on_note: Callable[[str], None] = lambda line: None
    on_failed_before: Callable[[Failure], None] = lambda failure: None


def check_options(options: RunOptions) -> None:
    """Refuse values that no run can have."""
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


def is_hdf5(path: Path | None) -> bool:
    """Whether an output is one HDF5 file instead of a folder."""
    return path is not None and has_suffix(path, HDF5)
