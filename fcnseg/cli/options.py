"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

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
        help="Arithmetic of the trunk; auto: the fastest that gives the network's labels here (torch: fp32).",
    ),
]

Calibrate = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Typical images: int8 is calibrated on up to 32 of them, and a new engine compared on up to 8. Models of "
        "two modalities look in the folder of --depth or --hha for their companions, under the same path.",
    ),
]

Depth = Annotated[Path | None, typer.Option(help="Folder of depth images, for models that take them.")]

Hha = Annotated[Path | None, typer.Option(help="Folder of HHA images, for models that take them.")]


Place = TypeVar("Place", str, Path)


def companions_of(depth: Place | None, hha: Place | None) -> dict[str, Place]:
    """Where the images of further modalities are, as far as that was said."""
    return {name: folder for name, folder in (("depth", depth), ("hha", hha)) if folder is not None}


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors and failures only.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


# ---------------------------------------------------------------------- settings files


def _read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take the file's values as defaults of this command's options."""
    import tomllib

    from fcnseg.errors import SettingsError

    if file is None:
        return None
    try:
        values = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"the settings {file} cannot be read: {reason}; give a TOML file") from error
    params: dict[str, Any] = {}
    for param in context.command.params:
        names = [option[2:] for option in param.opts if option.startswith("--")]
        if param.param_type_name == "argument":
            shown = getattr(param, "metavar", None) or param.name or ""
            names = [shown.lower(), shown.upper()]
        for name in names:
            params |= {name: param, name.replace("-", "_"): param}
    params.pop("config")
    unknown = [name for name in values if name not in params]
    if unknown:
        raise SettingsError(f"{file}: {', '.join(unknown)} is no option of {context.command_path}; see its --help")
    context.default_map = {
        params[name].name or "": _config_value(f"{file}: {name}", params[name], value) for name, value in values.items()
    }
    return file


def _config_value(where: str, param: Any, value: Any) -> Any:
    """A value of a settings file as its option takes it. Raises SettingsError for one of another type."""
    import json

    from fcnseg.errors import SettingsError

    if getattr(param, "is_flag", False):
        fits, wanted = isinstance(value, bool), "true or false"
    elif getattr(param, "count", False):
        fits, wanted = type(value) is int, "a whole number"
    elif param.multiple:
        value = value if isinstance(value, list) else [value]
        fits, wanted = all(type(one) in (str, int, float) for one in value), "texts or numbers"
    else:
        fits, wanted = type(value) in (str, int, float), "a text or a number"
    if not fits:
        raise SettingsError(f"{where} is {json.dumps(value, default=str)}; give {wanted}")
    return str(value) if type(value) in (int, float) and not getattr(param, "count", False) else value


Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Take options from a file, by their long names; those typed count more.",
        is_eager=True,
        callback=_read_config,
    ),
]
