"""Options of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from fcnseg.engine.options import EngineOptions
from fcnseg.errors import SettingsError
from fcnseg.io.urls import is_url, refuse_lost_slash
from fcnseg.running.records import is_hdf5

LARGEST_SHARD = 1024
"""The most inputs that a worker takes at once: losing more with it would cost more than giving out smaller shards."""

FORMATS = "files", "tar"
"""The forms of outputs of runs in shards."""


PLACES = "out", "probabilities", "overlay", "colour_png", "mask", "cutout", "yolo"
"""The options that are places of outputs, or classes and a place."""

SINK = "sink "
"""What stands before the name of a plug-in's sink among places and kinds of output."""


TABLES = "stats", "polygons"
"""The options that are files of all images."""


@dataclass(frozen=True)
class RunOptions:
    """All options of a run. The source, the model and the kinds of output are its settings: they cannot change while an
    output folder is filled.

    `source`: a folder, an image, a list of paths ("-": on standard input), an archive, `FILE.h5::/dataset`, or a URL.
    `companions`: folders or HDF5 datasets of further modalities ("depth", "hha"). `glob` chooses images, `layout` tells
    the axes of HDF5 datasets (auto, NHWC, NCHW). Images of more than `max_pixels` are refused.

    `out`, `probabilities`: a folder or an HDF5 file; `overlay`, `colour_png`, `yolo`: a folder. `mask`, `cutout`:
    classes, as `"road"` or `"car,person"`, and a folder. If `out` is a URL (`s3://bucket/masks`), the others are URLs,
    too; `storage_options` are for all of them. `probabilities_dtype`: float16 or float32. `top_k`: the probabilities of
    so many classes alone. `opacity` of overlays: 0 (the image) to 1 (the colours).

    `sinks`: folders by plug-in, `{"NAME:ARGUMENT": "DIR"}`.

    `classes`: the classes to keep, as `"car,person"`. In all outputs but probabilities, pixels of other classes become
    the class `background` if the model has one, else void.

    `stats`: a file, CSV or Parquet, of the pixels of each class in every image. `polygons`: a COCO file (JSON), of
    run-length encodings, or with `polygon_tolerance` (px, 0 is exact) of polygons. `yolo`: a folder of text files of
    polygons, of the same tolerance or exact.

    `tile`: "auto", "off", or the side of tiles in pixels. `batch`: images of one size at once. `workers`: threads that
    decode, and as many that write. None leaves a number to fcnseg.

    `resume`: "auto" goes on where the same settings on the same machine left off, "continue" also after libraries or
    hardware changed, "overwrite" starts over. `retry_failed` tries again what failed in earlier runs. The run stops
    after more than `max_failures`. `num_parts` and `part_id`: only that part of the inputs, from 0. `space_check`:
    refuse to start if the outputs cannot have room.

    `on`: "ray" runs on the Ray cluster at `ray_address` (None: that of RAY_ADDRESS or of this machine, else a new one
    on this machine). `shard_images`: the inputs that a worker takes at once there and for URLs, a power of two.
    `out_format`: "files", or "tar" for one tar a shard, in each of the places, in which outputs have the same names.
    """

    source: str | Path
    out: str | Path
    engine: EngineOptions = field(default_factory=EngineOptions)
    companions: Mapping[str, str | Path] = field(default_factory=dict)
    glob: str | None = None
    layout: str = "auto"
    probabilities: str | Path | None = None
    probabilities_dtype: str = "float16"
    top_k: int | None = None
    overlay: str | Path | None = None
    opacity: float = 0.5
    colour_png: str | Path | None = None
    mask: tuple[str, str | Path] | None = None
    cutout: tuple[str, str | Path] | None = None
    classes: str | None = None
    yolo: str | Path | None = None
    stats: str | Path | None = None
    polygons: str | Path | None = None
    polygon_tolerance: float | None = None
    sinks: Mapping[str, str | Path] = field(default_factory=dict)
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
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    on: str | None = None
    ray_address: str | None = None
    shard_images: int | None = None
    out_format: str = "files"

    def __post_init__(self) -> None:
        for name in (*PLACES, *TABLES):
            value = getattr(self, name)
            before, place = value[:-1] if isinstance(value, tuple) else (), last_of(value)
            if place is not None and not is_url(place):
                object.__setattr__(self, name, (*before, Path(place)) if before else Path(place))
        sinks = {text: place if is_url(place) else Path(place) for text, place in self.sinks.items()}
        object.__setattr__(self, "sinks", sinks)

    @property
    def places(self) -> dict[str, str | Path]:
        """The places of outputs that were given, by option."""
        places = {name: last_of(getattr(self, name)) for name in PLACES}
        places |= {f"{SINK}{text}": place for text, place in self.sinks.items()}
        return {name: place for name, place in places.items() if place is not None}

    @property
    def tables(self) -> dict[str, str | Path]:
        """The files of all images that were given, by option."""
        return {name: place for name in TABLES if (place := getattr(self, name)) is not None}

    @property
    def is_sharded(self) -> bool:
        """Tell whether the run has a plan and manifests in place of a ledger."""
        return self.on is not None or is_url(self.out)


def last_of(value: str | Path | tuple[str, str | Path] | None) -> str | Path | None:
    """Return the place in an option that is a place, or classes and a place."""
    return value[-1] if isinstance(value, tuple) else value


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
    if options.polygon_tolerance is not None:
        if options.polygons is None and options.yolo is None:
            faults.append("--polygon-tolerance is that of polygons; give --polygons or --yolo, too")
        if not 0 <= options.polygon_tolerance < inf:
            faults.append(f"--polygon-tolerance {options.polygon_tolerance} is no number of pixels from 0 up")
    faults += [
        f"--{name.replace('_', '-')} writes a file for each image, and {place} is an HDF5 file; give a folder"
        for name, place in options.places.items()
        if is_hdf5(place) and name not in ("out", "probabilities")
    ]
    files = [place for place in (options.out, options.probabilities) if is_hdf5(place)]
    paths = [os.path.realpath(file) for file in files if file is not None]
    if len(set(paths)) < len(paths):
        faults.append(f"{paths[0]} cannot hold both labels and probabilities; give two files")
    if options.num_parts > 1 and files:
        faults.append("the parts of a run cannot share one HDF5 file; give a folder, or a file for each part")
    faults += _faults_of_shards(options, bool(files))
    if not (options.tile in ("auto", "off") or isinstance(options.tile, int)):
        faults.append(f"--tile {options.tile!r} is unknown; use auto, off or a size in pixels")
    if faults:
        raise SettingsError(". ".join(faults))


def _faults_of_shards(options: RunOptions, has_hdf5: bool) -> list[str]:
    """Return what is wrong with the options of runs with a plan and manifests."""
    faults = []
    for place in (*options.places.values(), *options.tables.values()):
        refuse_lost_slash(place)
    if not options.is_sharded and any(map(is_url, options.tables.values())):
        faults.append(f"--{' and --'.join(options.tables)} can be at a URL where --out is; give a path")
    if len({is_url(place) for place in options.places.values()}) > 1:
        faults.append("outputs go to URLs, all of them, or to folders")
    if options.on not in (None, "ray"):
        faults.append(f"--on {options.on} is unknown; use ray")
    if options.is_sharded and has_hdf5:
        faults.append("HDF5 files are written by one machine on its own drive; give a folder, or a URL of one")
    if not options.is_sharded and options.shard_images is not None:
        faults.append("--shard-images is for runs on Ray or with a URL as --out; leave it out")
    if options.out_format not in FORMATS:
        faults.append(f"--out-format {options.out_format} is unknown; use {' or '.join(FORMATS)}")
    if not options.is_sharded and options.out_format != FORMATS[0]:
        faults.append(f"--out-format {options.out_format} is for runs on Ray or with a URL as --out; leave it out")
    if options.on == "ray" and options.num_parts > 1:
        faults.append("--on ray divides the inputs by itself; leave out --num-parts")
    if options.on is None and options.ray_address is not None:
        faults.append("--ray-address is of a cluster; give --on ray, too")
    size = options.shard_images
    if size is not None and (size & (size - 1) or not 1 <= size <= LARGEST_SHARD):
        faults.append(f"--shard-images {size} is no power of two from 1 to {LARGEST_SHARD}")
    if options.is_sharded and options.retry_failed and options.num_parts > 1:
        faults.append("--retry-failed makes a new plan, which parts at work would not know of; leave out --num-parts")
    return faults
