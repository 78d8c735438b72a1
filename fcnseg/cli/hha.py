"""`fcnseg hha`: depth maps to the HHA images that models with such an input take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fcnseg.cli.completion import complete_values
from fcnseg.cli.console import out, say, say_failed, shown
from fcnseg.cli.options import AsJson, JsonLogs, Quiet, Verbose
from fcnseg.cli.progress import counted_progress, interruptible


@interruptible("what is written is whole; the same command goes on from there")
def hha(
    depth: Annotated[
        str,
        typer.Argument(metavar="DEPTH", help="A folder of depth maps, one file, an archive, or FILE.h5::/NAME."),
    ],
    camera: Annotated[
        str,
        typer.Option(
            "--camera",
            "-c",
            metavar="nyud|FILE.json",
            autocompletion=complete_values("nyud"),
            help="The camera of the depth maps, see above.",
        ),
    ],
    out_folder: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the HHA images, as PNG.")],
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|FILE.h5::/NAME",
            help="The raw depth maps of the same names, if DEPTH has its holes filled.",
        ),
    ] = None,
    depth_scale: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Units of depth in a metre.",
            show_default="1000 (mm) in images, 1 (m) in .npy and HDF5",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-j",
            min=1,
            metavar="N",
            help="Processes that encode.",
            show_default="one a core, for many images",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start over, replacing the HHA images.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry depth maps that failed before.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
) -> None:
    """Encode depth as HHA: horizontal disparity, height above ground, angle with gravity (Gupta et al. 2014).

    Models with an hha input (nyud-fcn32s-hha, nyud-fcn32s-color-hha) take these images with `fcnseg run --hha DIR` and
    in training. DEPTH holds 16-bit PNGs in millimetres (others with --depth-scale: 5000 for TUM RGB-D), .npy arrays
    H x W in metres, or datasets such as nyu_depth_v2_labeled.mat::/depths. The direction of gravity is estimated for
    each image from its floors and walls; the camera must be held upright within 45 degrees.

    The camera is nyud (the Kinect of NYUDv2, 640 x 480, not cropped), or a JSON file with pixels:
    {"fx": 519, "fy": 519, "cx": 320, "cy": 240} or {"K": [[519, 0, 320], [0, 519, 240], [0, 0, 1]]}; with "width" and
    "height" images of another size are refused.

    Missing depth (0, NaN) becomes the nearest measured value; surfaces are fitted to measured pixels alone. Where the
    holes of DEPTH were filled, --raw names what was measured (its zeros are the holes): the result is then that of
    Gupta et al.'s own code, to a rounding.

    Images that fail are named, the others encoded, and the exit code is 3. The same command resumes where it was
    stopped: OUT/.fcnseg records every image, and `fcnseg status OUT` shows the progress.

    \b
    Examples:
      fcnseg hha depth/ --camera nyud --out hha/
      fcnseg hha nyu_depth_v2_labeled.mat::/depths \\
        --raw nyu_depth_v2_labeled.mat::/rawDepths --camera nyud --out hha/
      fcnseg hha depth/ --camera K.json --depth-scale 5000 --out hha/
      fcnseg run photos/ --hha hha/ --model nyud-fcn32s-color-hha --out masks/
    """
    from fcnseg.hha.camera import find_camera
    from fcnseg.hha.files import encode_files
    from fcnseg.hha.records import HhaOptions

    options = HhaOptions(
        depth,
        find_camera(camera),
        out_folder,
        raw,
        depth_scale,
        workers,
        overwrite=overwrite,
        retry_failed=retry_failed,
    )
    with counted_progress("encoding", quiet, verbose) as on_progress:
        summary = encode_files(options, on_progress, say)
    for failure in summary.failures:
        say_failed(failure)
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.failed_before:
        say(f"{summary.failed_before} of these failed in an earlier call; --retry-failed tries them again")
    if as_json:
        failures = [{"key": f.key, "stage": f.stage, "reason": f.reason} for f in summary.failures]
        counts = {name: getattr(summary, name) for name in ("total", "done", "kept", "failed")}
        typer.echo(json.dumps({**counts, "failures": failures}))
    else:
        kept = f", {summary.kept} were there already" if summary.kept else ""
        failed = f", {summary.failed} failed" if summary.failed else ""
        out().print(f"{summary.done} HHA images in {shown(str(out_folder))}{kept}{failed}", markup=False)
    raise typer.Exit(summary.exit_code)
