"""The style of `--help`: at the terminal's width, every value in capitals, one line a command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from fcnseg.io.urls import refuse_url

WIDEST = 160
"""Columns of help at most: longer lines are hard to read."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST}
"""Settings of the root command that all others inherit."""

WIDE = 100
"""Columns from which the names of options get more room."""

_DEFAULT_IN_WORDS = re.compile(r"\[default: \((.*)\)(?=[;\]])")
_AT_LEAST = re.compile(r"(?<=[\[ ])x>=(\d+(?:\.\d+)?)(?=[;\]])")
_BETWEEN = re.compile(r"(?<=[\[ ])(\d+(?:\.\d+)?)<=x<=(\d+(?:\.\d+)?)(?=[;\]])")


class HelpfulCommand(TyperCommand):
    """A command whose help names arguments by their metavar alone. URLs are refused where paths are meant."""

    def invoke(self, ctx: Any) -> Any:
        """Check the paths, then run the command. Raises SettingsError for one that was given as a URL."""
        for param in self.get_params(ctx):
            value = ctx.params.get(param.name)
            for path in value if isinstance(value, list | tuple) else [value]:
                if isinstance(path, Path):
                    refuse_url(path, param.opts[0] if param.opts[0].startswith("-") else _name_of(param))
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return `[OPTIONS] SOURCE`: arguments that may be left out in brackets."""
        return ["[OPTIONS]", *(_usage_of(param) for param in self.get_params(ctx) if _is_argument(param))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        _write_parameters(self, ctx, formatter)


class HelpfulGroup(TyperGroup):
    """A group of commands with the same style."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options and commands."""
        _write_parameters(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _usage_of(param: Any) -> str:
    return _name_of(param) if param.required else f"[{_name_of(param)}]"


def _name_of(param: Any) -> str:
    return f"{param.metavar or param.name.upper()}{'...' if param.nargs != 1 else ''}"


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    for title, is_of_section in (("Arguments", True), ("Options", False)):
        rows = []
        for param in command.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and _is_argument(param) == is_of_section:
                name, text = record
                rows.append((_name_of(param) if is_of_section else name, _plain(text)))
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows, col_max=44 if formatter.width >= WIDE else 30)


def _plain(text: str) -> str:
    """Return the help of a parameter with its bounds and default in words."""
    text = _DEFAULT_IN_WORDS.sub(r"[default: \1", text)
    text = _AT_LEAST.sub(r"at least \1", text)
    return _BETWEEN.sub(r"\1 to \2", text)
