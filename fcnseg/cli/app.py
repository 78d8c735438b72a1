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
from fcnseg.cli.leaving import leave
from fcnseg.cli.standard_streams import end_standard_output, log_event
from fcnseg.errors import NO_MORE_THREADS, FcnsegError, is_out_of_threads

# Typer carries its own copy of Click since 0.26 and depended on the package before: both are reached this way.
UsageError, ClickException = typer.BadParameter.__mro__[1:3]

NO_ROOM = re.compile("failed to map segment|cannot allocate memory", re.IGNORECASE)
"""What the system's loader says of a library for which the address space has no room."""

app = typer.Typer(
    name="fcnseg",
    help="Semantic segmentation of folders of images with fully convolutional networks.",
    epilog="Start with: fcnseg run photos/ --out masks/",
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich would double the time that --help takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("score")(score.score)
app.command("diff")(diff.diff)
app.command("compare")(compare.compare)
app.command("view")(view.view)
app.command("train")(train.train)
app.command("build-engine")(build_engine.build_engine)
app.add_typer(engines.app, name="engines")
app.command("export")(export.export)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("hha")(hha.hha)
app.command("models")(models.models)
app.add_typer(weights.app, name="weights")


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
    Errors.as_json = "--json-logs" in sys.argv
    try:
        code: Any = app(standalone_mode=False)
    except typer.Abort:
        code = _fail("interrupted", 130)
    except ClickException as error:  # type: ignore[misc]
        code = _fail(f"{error.format_message().rstrip('.')}; see `{_usage(error)}`", 2)
    except KeyboardInterrupt:
        code = _fail("interrupted; the same command starts again", 130)
    except FcnsegError as error:
        code = _fail(str(error), error.exit_code, error)
    except BrokenPipeError:
        code = 1
    except (ImportError, OSError, RuntimeError) as error:  # a library that cannot be loaded may raise any of them
        if is_out_of_threads(error):
            code = _fail(NO_MORE_THREADS, 1, error)
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


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'fcnseg'} --help"


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
