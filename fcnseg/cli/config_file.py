"""`--config FILE.toml`: options of a command from a file."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from fcnseg.cli.console import Errors
from fcnseg.errors import SettingsError
from fcnseg.texts import read_text


def _read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take the file's values as defaults of the command's options. Raises SettingsError with all its faults."""
    if file is None:
        return None
    try:
        values = tomllib.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"the settings {file} cannot be read: {reason}; give a TOML file") from error
    params = _params_by_name(context.command)
    if values.get("json_logs", values.get("json-logs")) is True:
        Errors.as_json = True
    faults, defaults = [], {}
    for name, value in values.items():
        if name not in params:
            faults.append(_unknown(name, params, context.command_path))
            continue
        expected, defaults[params[name].name] = _option_value(params[name], value)
        if expected:
            faults.append(f"{name} is {json.dumps(value, default=str)}; give {expected}")
    if faults:
        raise SettingsError(f"{file}: {'; '.join(faults)}")
    context.default_map = defaults
    return file


def _params_by_name(command: Any) -> dict[str, Any]:
    """The options of a command by their long names, with - or _, and its arguments by their names in its help."""
    params: dict[str, Any] = {}
    for param in command.params:
        names = [option[2:] for option in param.opts if option.startswith("--")]
        if param.param_type_name == "argument":
            metavar = getattr(param, "metavar", None) or param.name
            names = [metavar.lower(), metavar.upper()]
        for name in names:
            params |= {name: param, name.replace("-", "_"): param}
    del params["config"]
    return params


def _unknown(name: str, params: dict[str, Any], command: str) -> str:
    near = difflib.get_close_matches(name, [known for known in params if "_" not in known], n=1)
    return f"{name} is no option of {command}; " + (f"did you mean {near[0]}?" if near else "see its --help")


def _option_value(param: Any, value: Any) -> tuple[str, Any]:
    """Return the expected type if the value has another one, else "", and the value as Typer takes it."""
    if getattr(param, "is_flag", False):
        return "" if isinstance(value, bool) else "true or false", value
    if getattr(param, "count", False):
        return "" if type(value) is int else "a whole number", value
    if param.nargs > 1:
        fits = isinstance(value, list) and [type(item) for item in value] == [str] * param.nargs
        return "" if fits else f"a list of {param.nargs} texts", value
    items = value if param.multiple and isinstance(value, list) else [value]
    if not all(type(item) in (str, int, float) for item in items):
        return "texts or numbers" if param.multiple else "a text or a number", value
    return "", items if param.multiple else str(value)


Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Read options from a file, by their long names; options on the command line take precedence.",
        is_eager=True,
        callback=_read_config,
    ),
]
