"""What an earlier run in the same folder was, and whether this one may go on with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnseg.errors import OutputError, SettingsError
from fcnseg.recipes import Recipe
from fcnseg.running.options import Hooks, RunOptions
from fcnseg.running.outputs import Outputs
from fcnseg.types import EngineInfo

if TYPE_CHECKING:
    from fcnseg.io.sources import ImageSource
    from fcnseg.running.ledger import Ledger


@contextmanager
def open_ledger(
    options: RunOptions, recipe: Recipe, info: EngineInfo, source: ImageSource, outputs: Outputs, hooks: Hooks
) -> Iterator[Ledger]:
    """The ledger of this part, agreed with on what the run is. Raises SettingsError if an earlier run was another."""
    from fcnseg.running.ledger import Ledger

    file = outputs.ledger_file
    if options.resume == "overwrite":
        start_over(outputs, file, options.num_parts, hooks)
    check_parts(options, outputs)
    with Ledger(file, outputs.folder) as ledger:
        wanted, here = settings_of(options, recipe, info), surroundings_of(options, info, source)
        found = ledger.agree(settings=wanted, machine=here, replace=options.resume == "overwrite")
        if changed := check_agreement(options, found, wanted, here):
            hooks.on_note(f"going on although {changed}")
            ledger.note(machine=here)
        ledger.expect_volumes({volume.staged: volume.file for volume in outputs.volumes})
        yield ledger


def check_earlier_run(
    options: RunOptions, recipe: Recipe, info: EngineInfo, source: ImageSource, outputs: Outputs
) -> None:
    """Look whether `open_ledger` would refuse what an earlier run left, and change nothing."""
    from fcnseg.running.ledger import Ledger

    if options.resume == "overwrite":
        return
    check_parts(options, outputs)
    if outputs.ledger_file.exists():
        with Ledger(outputs.ledger_file, outputs.folder, reading=True) as ledger:
            found = {name: ledger.fact(name) for name in ("settings", "machine")}
        if found["settings"] is not None:
            check_agreement(options, found, settings_of(options, recipe, info), surroundings_of(options, info, source))


def check_parts(options: RunOptions, outputs: Outputs) -> None:
    """Refuse another number of parts than the earlier run's."""
    from fcnseg.running.status import LEDGERS, parts_of

    others = [p for p in outputs.records.glob(LEDGERS) if parts_of(p) != options.num_parts]
    if others:
        raise SettingsError(
            f"{options.out} was filled in {parts_of(others[0])} parts, not {options.num_parts}; "
            "use the same --num-parts, or --overwrite to start over"
        )


def check_agreement(
    options: RunOptions, found: Mapping[str, Any], settings: Mapping[str, Any], machine: Mapping[str, Any]
) -> str:
    """Refuse other settings than the `found` ones of an earlier run, and another machine unless that is asked for;
    returns, in words, what of the machine is another then."""
    if changed := differences(found["settings"], settings):
        raise SettingsError(
            f"{options.out} was made with other settings: {changed}; use the same, another --out, or "
            "--overwrite to start over"
        )
    if (changed := differences(found["machine"], machine)) and options.resume != "continue":
        raise SettingsError(
            f"{options.out} was begun under other circumstances: {changed}; --continue goes on all the same "
            "(labels may differ where two classes tie), --overwrite starts over"
        )
    return changed


def start_over(outputs: Outputs, ledger_file: Path, parts: int, hooks: Hooks) -> None:
    """Remove what earlier runs of this part made, as far as it is still as they made it, and its ledger; everything if
    the run was in another number of parts."""
    from fcnseg.running.claims import is_alive
    from fcnseg.running.ledger import Ledger
    from fcnseg.running.status import LEDGERS, parts_of

    for lock in outputs.records.glob("*.lock"):
        if is_alive(outputs.records, lock.stem):
            raise SettingsError(f"another process is writing to {outputs.options.out}; end it before --overwrite")
    for file in outputs.records.glob(LEDGERS):
        if file != ledger_file and parts_of(file) == parts:
            continue  # another part of the same run
        try:
            with Ledger(file, outputs.folder) as ledger:
                for kept in chain(chain.from_iterable(ledger.outputs()), ledger.volumes().values()):
                    if kept.is_whole(outputs.folder):
                        (outputs.folder / kept.path).unlink()
        except OutputError as error:
            hooks.on_note(f"{error}; it is removed, and what it knew of is left where it is")
        for path in outputs.records.glob(f"{file.name}*"):
            path.unlink()
    for volume in outputs.volumes:
        volume.discard_staged()


def settings_of(options: RunOptions, recipe: Recipe, info: EngineInfo) -> dict[str, Any]:
    """What every label of a run follows from, by the names of the options."""
    from fcnseg.engine.identity import recipe_hash
    from fcnseg.engine.record import read_record

    calibration = read_record(info.file).identity.calibration if info.file else None
    return {
        "model": info.model,
        "recipe": recipe_hash(recipe)[:16],
        "weights": info.weights_sha256[:16],
        "backend": info.backend,
        "precision": info.precision,
        "calibration": calibration and calibration[:16],
        "layout": options.layout,
        "probabilities": os.path.abspath(options.probabilities) if options.probabilities else None,
        "probabilities-dtype": options.probabilities_dtype if options.probabilities else None,
        "top-k": options.top_k,
        "overlay": os.path.abspath(options.overlay) if options.overlay else None,
        "opacity": options.opacity if options.overlay else None,
    }


def surroundings_of(options: RunOptions, info: EngineInfo, source: ImageSource) -> dict[str, str]:
    """What a run may go on without, if its user says so: where the inputs are, and what the last bits of a score may
    depend on."""
    place = os.fspath(options.source)
    here = {"source": place if place == "-" else os.path.abspath(place)}
    if source.root:
        here["the folder of all its paths"] = source.root
    for name, folder in options.companions.items():
        here[name] = os.path.abspath(folder)
    return {**here, "device": info.device, **info.versions}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, what two records say differently; empty if nothing."""
    return ", ".join(
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in (*now, *(name for name in before if name not in now))
        if before.get(name) != now.get(name)
    )
