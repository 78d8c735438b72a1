"""`fcnseg engines`: the cache of engines on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.build_engine import verdict
from fcnseg.cli.console import out, say, say_failed, shown
from fcnseg.cli.help_style import HelpfulCommand
from fcnseg.cli.options import AsJson, JsonLogs, Quiet, Verbose
from fcnseg.cli.progress import build_display, interruptible

if TYPE_CHECKING:
    from fcnseg.engine.record import EngineRecord

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, remove and verify built engines.")


@app.command("list", cls=HelpfulCommand, short_help="List the engines in the cache, newest last.")
@interruptible()
def list_(as_json: AsJson = False) -> None:
    """List the engines in the cache, newest last: their model, device, precision and how they were verified."""
    from dataclasses import asdict

    from fcnseg.engine.cache import cached_engines, recorded_failures
    from fcnseg.io.user_folders import engine_folder

    engines = cached_engines()
    if as_json:
        rows = [{"name": s.identity.key, "path": path, **asdict(s)} for path, s in engines]
        out().print_json(json.dumps(rows, default=str), ensure_ascii=True)
        return
    from rich.table import Table

    table = Table("engine", "model", "backend", "precision", "MiB", "agreement", "built", box=None, header_style="bold")
    for path, record in engines:
        identity = record.identity
        table.add_row(
            identity.key,
            identity.model,
            identity.backend + (" + probabilities" if identity.probabilities else ""),
            identity.precision,
            f"{record.file_bytes / 2**20:.1f}" if path.is_file() else "-",
            _agreement(record),
            record.built[:16].replace("T", " "),
        )
    out().print(table)
    for model, name, reason in recorded_failures():
        say(f"{shown(model)} {shown(name)} could not be built: {shown(reason)}")
    say(f"{len(engines)} in {engine_folder()}")


def _agreement(record: EngineRecord) -> str:
    verification = record.verification
    if verification is None:
        return "not verified"
    return f"{verification.agreement:.2%}" + ("" if verification.passed else ", rejected")


@app.command("rm", cls=HelpfulCommand)
@interruptible()
def rm(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Engines by their name in the list, or models.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every engine, and what broken and failed builds left.")
    ] = False,
) -> None:
    """Remove engines from the cache; they are built again when needed."""
    from fcnseg.engine.cache import cached_engines, remove, strays
    from fcnseg.errors import SettingsError

    if not names and not everything:
        raise SettingsError("no engine is named; give names from `fcnseg engines list`, a model, or --all")
    kept = cached_engines()
    chosen = [path for path, s in kept if everything or {s.identity.key, s.identity.model} & set(names or ())]
    unknown = set(names or ()) - {n for _, s in kept for n in (s.identity.key, s.identity.model)}
    if unknown:
        raise SettingsError(f"there is no engine {', '.join(sorted(unknown))}; `fcnseg engines list` shows them")
    freed = sum(remove(path) for path in [*chosen, *(strays() if everything else [])])
    say(f"removed {len(chosen)} engines, {freed / 2**20:.1f} MiB")


@app.command("verify", cls=HelpfulCommand, short_help="Compare engines with their network again.")
@interruptible()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Engines by their name in the list, or files.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
) -> None:
    """Compare engines with their fp32 network again, and check their files; without NAMES every one in the cache.

    The comparison goes into the engine's record: one that no longer gives the network's labels is not run any more.
    The exit code is 1 if any engine failed.
    """
    from fcnseg.engine.cache import SUFFIX, cached_engines
    from fcnseg.engine.recheck import verify_engine
    from fcnseg.errors import EngineError, FcnsegError, SettingsError
    from fcnseg.types import Failure

    kept = {s.identity.key: path for path, s in cached_engines() if path.suffix == SUFFIX}
    files = [kept.get(name, Path(name)) for name in names] if names else list(kept.values())
    if missing := [str(f) for f in files if not f.is_file()]:
        raise SettingsError(f"there is no engine {', '.join(missing)}; `fcnseg engines list` shows them")
    failed = 0
    for file in files:
        try:
            with build_display(quiet, verbose) as hooks:
                record = verify_engine(file, hooks)
        except FcnsegError as error:
            failed += 1
            say_failed(Failure(file.name, "verify", str(error)))
        else:
            out().print(f"{shown(file.name)}: {verdict(record)}", markup=False)
    if failed:
        raise EngineError(f"{failed} of {len(files)} engines failed; `fcnseg engines rm` removes them")
