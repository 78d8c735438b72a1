"""The `fcnseg` command: its sub-commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import re
import sys
import traceback
from typing import Annotated, Any

import typer

from fcnseg import __version__
from fcnseg.cli import (
    bench,
    build_engine,
    compare,
    diff,
    doctor,
    engines,
    export,
    hha,
    models,
    run,
    score,
    status,
    train,
    view,
    weights,
)
from fcnseg.cli.console import Errors, shown
from fcnseg.cli.foreign_options import answer_to_assignment, answer_to_command, answer_to_option
from fcnseg.cli.help_style import CONTEXT, HelpfulCommand, HelpfulGroup
from fcnseg.cli.leaving import leave
from fcnseg.cli.standard_streams import end_standard_output, log_end, log_event
from fcnseg.errors import NO_MORE_THREADS, OPTIONAL, FcnsegError, installs, is_out_of_threads

# Typer carries its own copy of Click since 0.26 and depended on the package before: both are reached this way.
UsageError, ClickException = typer.BadParameter.__mro__[1:3]

NO_ROOM = re.compile("failed to map segment|cannot allocate memory", re.IGNORECASE)
"""What the system's loader says of a library for which the address space has no room."""

app = typer.Typer(
    name="fcnseg",
    cls=HelpfulGroup,
    help="Semantic segmentation of folders of images with fully convolutional networks.",
    epilog="Start with: fcnseg run photos/ --out masks/",
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich would double the time that --help takes
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)

COMMANDS: dict[str, tuple[Any, str]] = {
    "run": (run.run, "Write a label map for every image of a folder."),
    "status": (status.status, "Show what of a run is done, failed or left."),
    "score": (score.score, "Compare label maps with ground truth."),
    "diff": (diff.diff, "Compare the label maps of two runs."),
    "compare": (compare.compare, "Compare several runs in one table."),
    "view": (view.view, "Draw a label map over its image."),
    "train": (train.train, "Train a model on labelled images."),
    "build-engine": (build_engine.build_engine, "Build and verify a model's engine for this machine."),
    "engines": (engines.app, "List, remove and verify built engines."),
    "export": (export.export, "Write a model as ONNX, for other runtimes."),
    "bench": (bench.bench, "Measure engines side by side: speed, memory, labels."),
    "doctor": (doctor.doctor, "Show this machine, its engines and what is missing."),
    "hha": (hha.hha, "Encode depth as HHA images, an input of some models."),
    "models": (models.models, "List the models, or show all about one."),
    "weights": (weights.app, "Import, inspect, pull and list weight files."),
}
"""The commands and groups of commands, each with the line that `fcnseg --help` has about it."""

for _name, (_command, _line) in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name, cls=HelpfulGroup, short_help=_line)
    else:
        app.command(_name, cls=HelpfulCommand, short_help=_line)(_command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fcnseg {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Semantic segmentation of folders of images with fully convolutional networks."""


def main() -> None:
    """Run the command line. Every error a user can meet becomes one line and an exit code here."""
    Errors.as_json, Errors.ended = "--json-logs" in sys.argv, False
    try:
        code: Any = app(standalone_mode=False)
    except typer.Abort:
        code = _fail("interrupted", 130)
    except ClickException as error:  # type: ignore[misc]
        remedy = _remedy(error)
        code = _fail(f"{error.format_message().rstrip('.?')}; {remedy}", 2)
    except KeyboardInterrupt:
        code = _fail("interrupted; the same command starts again", 130)
    except FcnsegError as error:
        code = _fail(str(error), error.exit_code, error)
    except BrokenPipeError:
        code = 1
    except (ImportError, OSError, RuntimeError) as error:  # a library that cannot be loaded may raise any of them
        if is_out_of_threads(error):
            code = _fail(NO_MORE_THREADS, 1, error)
        elif isinstance(error, ImportError) and error.name in OPTIONAL:
            packages = OPTIONAL[error.name]
            code = _fail(f"this needs {' and '.join(packages)}; {installs(*packages)}", 1, error)
        elif lines := [line for line in str(error).splitlines() if NO_ROOM.search(line)]:
            code = _fail(f"a library does not fit into memory: {lines[0]}; raise the limit (`ulimit -v`)", 1, error)
        elif isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            code = _fail(f"{error.strerror or error}{where}; check the path and its permissions", 1, error)
        else:
            code = _fail_unforeseen(error)
    except MemoryError as error:
        code = _fail("out of memory; use a smaller batch or fewer workers", 1, error)
    except Exception as error:
        code = _fail_unforeseen(error)
    code = code if isinstance(code, int) else 0
    log_end(code)
    unwritten = end_standard_output()
    if unwritten and not code:
        quiet = isinstance(unwritten, BrokenPipeError)
        code = 1 if quiet else _fail(f"standard output cannot be written: {unwritten.strerror}; redirect it", 1)
    leave(code)


def _fail_unforeseen(error: Exception) -> int:
    """Raise an error that nobody has foreseen, or print it as JSON if nothing else may be printed."""
    if not Errors.as_json:
        raise error
    return _fail(f"{type(error).__name__}: {error}", 1, error, trace=True)


def _remedy(error: Any) -> str:
    """Return what to do about a line that cannot be parsed: what other tools call so has another name here."""
    context = getattr(error, "ctx", None)
    params = context.command.params if context else []
    known = {name for param in params for name in (*param.opts, *param.secondary_opts, param.metavar) if name}
    arguments = sys.argv[1:]
    if option := getattr(error, "option_name", None):
        answer = answer_to_option(option, arguments, known) if type(error).__name__ == "NoSuchOption" else ""
    elif hasattr(getattr(context, "command", None), "commands"):
        answer = answer_to_command(next((a for a in arguments if not a.startswith("-")), ""))
    elif "--json" in arguments and "--json-file" in known and "extra argument" in error.format_message():
        answer = "--json prints on standard output; --json-file FILE writes a file"
    else:
        answer = answer_to_assignment(arguments, known)
    if answer:
        error.possibilities = None  # those that Click guesses
        return answer
    path = context.command_path if context else "fcnseg"
    return f"see `{path} --help`"


def _fail(message: str, code: int, error: BaseException | None = None, *, trace: bool = False) -> int:
    """Print one line on standard error, or one of JSON, and with -vv the traceback; returns the exit code."""
    lines = traceback.format_exception(error) if error is not None and (trace or "-vv" in sys.argv) else []
    line = " ".join(str(message).split())
    if Errors.as_json:
        log_event("error", exit_code=code, text=line, **({"traceback": "".join(lines)} if lines else {}))
    else:
        trace_lines = [f"{shown(text)}\n" for text in "".join(lines).splitlines()]  # their messages have names in them
        sys.stderr.write(f"{''.join(trace_lines)}fcnseg: error: {shown(line)}\n")
    return code
