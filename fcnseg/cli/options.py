"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

Model = Annotated[str, typer.Option("--model", "-m", help="A name that `fcnseg models` lists, or a recipe FILE.toml.")]

Weights = Annotated[
    Path | None,
    typer.Option(help="Weights of the model: imported, or straight from Caffe or PyTorch.", show_default="its own"),
]

Backend = Annotated[
    str,
    typer.Option(
        metavar="auto|torch|openvino|tensorrt|tensorrt-rtx",
        help="The runtime; auto: TensorRT or torch on NVIDIA GPUs, OpenVINO on CPUs.",
    ),
]

Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="The device to run on.")]

Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16|int8",
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

Depth = Annotated[Path | None, typer.Option(help="Folder of depth images, for models that take them.")]

Hha = Annotated[Path | None, typer.Option(help="Folder of HHA images, for models that take them.")]


Folder = TypeVar("Folder", str, Path)


def companions_of(depth: Folder | None, hha: Folder | None) -> dict[str, Folder]:
    """Return the folders of further modalities that were given."""
    return {name: folder for name, folder in (("depth", depth), ("hha", hha)) if folder is not None}


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only errors and failures.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
