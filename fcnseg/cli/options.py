"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fcnseg.cli.completion import complete_backends, complete_devices, complete_models, complete_precisions
from fcnseg.cli.standard_streams import Errors, begin_json_logs

MODEL_HELP = "A name that `fcnseg models` lists, or a recipe FILE.toml."

Model = Annotated[
    str,
    typer.Option("--model", "-m", metavar="NAME|FILE.toml", autocompletion=complete_models, help=MODEL_HELP),
]

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=complete_models, help=MODEL_HELP)]

Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights of the model: imported, or straight from Caffe or PyTorch.",
        show_default="its own",
    ),
]

Backend = Annotated[
    str,
    typer.Option(
        metavar="auto|torch|openvino|tensorrt|tensorrt-rtx",
        autocompletion=complete_backends,
        help="The runtime; auto: TensorRT or torch on NVIDIA GPUs, OpenVINO on CPUs.",
    ),
]

Device = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", autocompletion=complete_devices, help="The device to run on."),
]

Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16|int8",
        autocompletion=complete_precisions,
        help="Arithmetic of the trunk; auto: the fastest that gives the network's labels here (torch: fp32).",
    ),
]

Calibrate = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Typical images: int8 is calibrated on up to 32 of them, a new engine is verified on up to 8. Models of "
        "two modalities take the image of the same path in the folder of --depth or --hha with each.",
    ),
]

Depth = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of depth images, for models that take them.")]

Hha = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of HHA images, for models that take them.")]


Folder = TypeVar("Folder", str, Path)


def companions_of(depth: Folder | None, hha: Folder | None) -> dict[str, Folder]:
    """Return the folders of further modalities that were given."""
    return {name: folder for name, folder in (("depth", depth), ("hha", hha)) if folder is not None}


StorageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="KEY=VALUE",
        help="An option of the storage behind URLs, such as endpoint=... or region=...; repeatable. "
        "Credentials come from the environment.",
        show_default=False,
    ),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only errors and failures.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="Print more, with the time of each step; -vv adds tracebacks.",
        show_default=False,
    ),
]


def _begin(value: bool) -> bool:
    """Log events from here on; a settings file may ask for it too."""
    if value:
        Errors.as_json = True
        begin_json_logs()
    return value


JsonLogs = Annotated[
    bool,
    typer.Option(
        "--json-logs",
        callback=_begin,
        is_eager=True,
        help="Print one JSON object per line on standard error instead of progress.",
    ),
]
