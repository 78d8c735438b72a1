"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
        help="What runs the network; auto: TensorRT or torch on NVIDIA GPUs, OpenVINO on processors.",
    ),
]

Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where it runs.")]

Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16|int8",
        help="Arithmetic of the trunk; auto: the fastest that gives the network's labels on this machine.",
    ),
]

Calibrate = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Typical images: int8 is calibrated, and the engine compared, on 32 of them."),
]

Depth = Annotated[Path | None, typer.Option(help="Folder of depth images, for models that take them.")]

Hha = Annotated[Path | None, typer.Option(help="Folder of HHA images, for models that take them.")]


def companions_of(depth: Path | None, hha: Path | None) -> dict[str, Path]:
    """The folders that were named, by modality."""
    return {name: folder for name, folder in (("depth", depth), ("hha", hha)) if folder is not None}


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors and failures only.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
