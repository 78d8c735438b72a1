"""`fcnseg run`: label maps for a folder, a list, an archive, an HDF5 file, or one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcnseg.cli.completion import complete_models, complete_values
from fcnseg.cli.config_file import Config
from fcnseg.cli.console import say
from fcnseg.cli.options import (
    MODEL_HELP,
    AsJson,
    Backend,
    Calibrate,
    Device,
    JsonLogs,
    Precision,
    Quiet,
    StorageOption,
    Verbose,
    Weights,
    companions_of,
)
from fcnseg.cli.progress import interruptible
from fcnseg.recipes import DEFAULT_MODEL


@interruptible()
def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder (searched through), an image, a .txt file with one path a line (- reads them from standard "
            "input), a .zip or .tar archive, FILE.h5::/dataset, a URL (s3://, gs://, az://), or a plug-in's "
            "NAME://PLACE.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR|FILE.h5|URL", help="Folder, file or URL for the label maps; made if needed."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE.toml",
            autocompletion=complete_models,
            help=MODEL_HELP,
            show_default=f"{DEFAULT_MODEL}, or the engine's",
        ),
    ] = None,
    weights: Weights = None,
    engine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Run this engine file, written by `fcnseg build-engine --out` on this machine."
        ),
    ] = None,
    depth: Annotated[
        str | None, typer.Option(metavar="DIR|FILE.h5", help="Depth images, for models that take them.")
    ] = None,
    hha: Annotated[
        str | None, typer.Option(metavar="DIR|FILE.h5", help="HHA images, for models that take them.")
    ] = None,
    glob: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only images whose path or name matches, e.g. '*.jpg'.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="auto|NHWC|NCHW",
            autocompletion=complete_values("auto", "NHWC", "NCHW"),
            help="Axes of an HDF5 dataset, if its shape does not tell them.",
        ),
    ] = "auto",
    save_probabilities: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|FILE.h5|URL", help="Also write class probabilities, K x H x W: .npy files, or one HDF5."
        ),
    ] = None,
    probabilities_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="float16|float32",
            autocompletion=complete_values("float16", "float32"),
            help="Data type of the probabilities.",
            show_default="float16",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="K", help="Keep the K most probable classes of each pixel and their probabilities."
        ),
    ] = None,
    overlay: Annotated[
        str | None, typer.Option(metavar="DIR|URL", help="Also write the images with their labels drawn over them.")
    ] = None,
    colour_png: Annotated[
        str | None,
        typer.Option(
            "--colour-png", "--color-png", metavar="DIR|URL", help="Also write the label maps in colours, as RGB PNGs."
        ),
    ] = None,
    mask: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="CLASS[,CLASS] DIR|URL",
            help="Also write masks, 255 where a pixel is of the class and else 0, of several classes in a folder each.",
        ),
    ] = None,
    cutout: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="CLASS[,CLASS] DIR|URL",
            help="Also write the images with all but these classes transparent, as RGBA PNGs.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS[,CLASS]",
            help="Keep these classes alone, in all outputs but probabilities: other pixels become the class "
            "`background` where the model has one, else void.",
        ),
    ] = None,
    stats: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.csv|FILE.parquet|URL",
            help="Also write a table of the pixels and the share of each class, a row for each image; with "
            "--save-probabilities also their mean confidence.",
        ),
    ] = None,
    polygons: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json|URL",
            help="Also write a COCO file: an annotation for each class in each image, as an exact run-length encoding.",
        ),
    ] = None,
    yolo: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL", help="Also write text files of polygons, as YOLO's segmentation models take them."
        ),
    ] = None,
    polygon_tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="PX",
            help="Write polygons in the COCO file, and simplify all polygons by about so many pixels; 0 is exact.",
        ),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:ARGUMENT]=DIR|URL",
            help="Also write what a plug-in makes of each image; repeatable. `fcnseg doctor` lists plug-ins.",
            show_default=False,
        ),
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    calibrate: Calibrate = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            metavar="N",
            help="Images of one size at once.",
            show_default="the engine's best",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-j",
            min=1,
            metavar="N",
            help="Threads that decode, and as many that write.",
            show_default="one a core, at most 8; 16 with URLs",
        ),
    ] = None,
    tile: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            autocompletion=complete_values("auto", "off"),
            help="Cut larger images into tiles; labels stay the same.",
        ),
    ] = "auto",
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Refuse larger images (decompression bombs).", show_default="178956970"),
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changed-environment",
            help="Resume although the hardware, a library or the place of the images has changed since.",
        ),
    ] = False,
    going_on: Annotated[bool, typer.Option("--continue", hidden=True)] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start over, replacing files in the output folder.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry images that failed in earlier runs.")
    ] = False,
    max_failures: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Stop when more than N images have failed.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first failure.")] = False,
    num_parts: Annotated[int, typer.Option(min=1, metavar="N", help="Split the inputs into N parts ...")] = 1,
    part_id: Annotated[int, typer.Option(min=0, metavar="I", help="... and process this one, counted from 0.")] = 0,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="ray", help="Run on a Ray cluster, or on one that is started on this machine."),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The cluster to join.", show_default="RAY_ADDRESS, or this machine's"),
    ] = None,
    out_format: Annotated[
        str,
        typer.Option(
            metavar="files|tar",
            autocompletion=complete_values("files", "tar"),
            help="With URLs and --on ray: a file for each image, or one tar for each shard.",
        ),
    ] = "files",
    shard_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Images that a worker takes at once, with --on or a URL: a power of two.",
            show_default="up to 1024",
        ),
    ] = None,
    storage_option: StorageOption = None,
    no_space_check: Annotated[
        bool, typer.Option("--no-space-check", help="Start even if there is not enough disk space for the outputs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; estimate sizes, time and disk space from a sample.")
    ] = False,
    config: Config = None,  # noqa: ARG001 - read before all others
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,
) -> None:
    """Segment every image of SOURCE, and write a label map for each.

    Label maps are indexed PNGs: the value of a pixel is its class, shown in the model's colours. They have the
    image's own size and lie in a mirrored tree: photos/a/b.jpg gives masks/a/b.png. Images are taken upright.
    An image that cannot be read is reported and the rest is done; the exit code is then 3.

    The same command resumes a run that was stopped for whatever reason: OUT/.fcnseg records the state of every image.
    `fcnseg status OUT` shows the progress.

    \b
    Examples:
      fcnseg run photos/ --out masks/
      fcnseg run photos/ --out masks/ --model voc-fcn8s \\
        --weights fcn8s-heavy-pascal.caffemodel
      fcnseg run data.h5::/images --out masks.h5
      find . -name '*.jpg' | fcnseg run - --out masks/
      fcnseg run s3://bucket/photos --out s3://bucket/masks --on ray

    --on ray runs on every node of the cluster that RAY_ADDRESS or --ray-address names; source and output are URLs then,
    or folders that all nodes share. Workers and nodes may die meanwhile, and the same command resumes after all else.
    """
    from fcnseg.cli.dry_run import show_estimate
    from fcnseg.cli.run_display import run_and_show
    from fcnseg.engine.load import model_of
    from fcnseg.engine.options import EngineOptions
    from fcnseg.errors import SettingsError
    from fcnseg.io.buckets import parse_storage_options
    from fcnseg.running.options import RunOptions
    from fcnseg.running.plugin_sinks import parse_sinks

    if going_on and not quiet:
        say("--continue is now called --accept-changed-environment; resuming as such needs no option")
    accept_changes |= going_on
    if accept_changes and overwrite:
        raise SettingsError("--accept-changed-environment goes on and --overwrite starts over; give one of them")
    if probabilities_dtype is not None and save_probabilities is None:
        raise SettingsError("--probabilities-dtype is the number type of probabilities; give --save-probabilities too")
    if dry_run and json_logs:
        raise SettingsError("--dry-run has no events to log; use --json, or leave out --json-logs")
    options = RunOptions(
        source=source,
        out=out,
        engine=EngineOptions(
            model or (model_of(engine) if engine else DEFAULT_MODEL),
            weights,
            backend,
            device,
            precision,
            engine,
            calibrate,
        ),
        companions=companions_of(depth, hha),
        glob=glob,
        layout=layout,
        probabilities=save_probabilities,
        probabilities_dtype=probabilities_dtype or "float16",
        top_k=top_k,
        overlay=overlay,
        colour_png=colour_png,
        mask=mask,
        cutout=cutout,
        classes=classes,
        yolo=yolo,
        stats=stats,
        polygons=polygons,
        polygon_tolerance=polygon_tolerance,
        sinks=parse_sinks(sink or ()),
        tile=int(tile) if tile.isdecimal() else tile,
        batch=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        resume="overwrite" if overwrite else "continue" if accept_changes else "auto",
        retry_failed=retry_failed,
        max_failures=0 if strict else max_failures,
        num_parts=num_parts,
        part_id=part_id,
        space_check=not no_space_check,
        storage_options=parse_storage_options(storage_option or ()),
        on=on,
        ray_address=ray_address,
        shard_images=shard_images,
        out_format=out_format,
    )
    if dry_run:
        raise typer.Exit(show_estimate(options, quiet, as_json, verbose))
    raise typer.Exit(run_and_show(options, quiet=quiet, as_json=as_json, json_logs=json_logs, verbose=verbose))
