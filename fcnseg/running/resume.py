"""Resuming: the ledger of an earlier run in the same folder, and whether this run may go on with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from shutil import rmtree
from typing import Any

from fcnseg.engine.identity import recipe_hash
from fcnseg.engine.record import read_record
from fcnseg.errors import OutputError, SettingsError
from fcnseg.io.image_source import ImageSource
from fcnseg.io.names import split_hdf5_name
from fcnseg.io.urls import absolute_place, plugin_scheme
from fcnseg.plugins import KINDS, SOURCES, find_plugin
from fcnseg.recipes import Recipe
from fcnseg.running.claims import living_claimants
from fcnseg.running.hooks import Hooks
from fcnseg.running.intact import (
    absolute_path,
    expect_tables,
    expect_volumes,
    is_intact,
    recorded_tables,
    recorded_volumes,
)
from fcnseg.running.ledger import SqliteLedger, has_begun
from fcnseg.running.ledger_file import remove_ledger
from fcnseg.running.options import RunOptions
from fcnseg.running.outputs import Outputs
from fcnseg.running.plugin_sinks import plugin_of
from fcnseg.running.records import LEDGERS, parts_of
from fcnseg.running.worklist import LOOKED_UP_AT_ONCE, chunks, fingerprint_of
from fcnseg.types import EngineInfo, Ledger, Reference

LISTED_BELOW = "the folder of all its paths"
"""The name, in words for the user, under which the deepest folder above all files of a list is recorded."""


@contextmanager
def open_ledger(
    recipe: Recipe, info: EngineInfo, source: ImageSource, outputs: Outputs, hooks: Hooks
) -> Iterator[Ledger]:
    """Open the ledger of this part, new or of an earlier run. Raises SettingsError if that run had other settings."""
    options = outputs.options
    if options.resume == "overwrite":
        start_over(outputs, hooks)
    check_parts(outputs)
    remove_blank_ledgers(outputs)
    # a claimant that lives until the last record is written: whatever it leaves unfinished is known to be its own
    with SqliteLedger(outputs.ledger_file, outputs.folder) as ledger, ledger.new_claimant():
        settings, machine = settings_of(options, recipe, info), machine_of(options, info, source)
        recorded = ledger.agree(settings=settings, machine=machine, replace=options.resume == "overwrite")
        if changed := check_agreement(options, recorded, settings, machine, lambda: holds_recorded(source, ledger)):
            hooks.on_note(f"going on although {changed}")
            ledger.note(machine=machine)
        expect_volumes(ledger, outputs.hdf5_files)
        expect_tables(ledger, {place.name: str(place.target) for place in outputs.tables})
        yield ledger


def check_earlier_run(recipe: Recipe, info: EngineInfo, source: ImageSource, outputs: Outputs) -> None:
    """Raise what `open_ledger` would raise because of an earlier run, and change nothing."""
    options = outputs.options
    if options.resume == "overwrite":
        return
    check_parts(outputs)
    if outputs.ledger_file.exists():
        with SqliteLedger(outputs.ledger_file, outputs.folder, reading=True) as ledger:
            recorded = {name: ledger.fact(name) for name in ("settings", "machine")}
            if recorded["settings"] is not None:
                settings, machine = settings_of(options, recipe, info), machine_of(options, info, source)
                check_agreement(options, recorded, settings, machine, lambda: holds_recorded(source, ledger))


def check_parts(outputs: Outputs) -> None:
    """Raise SettingsError if an earlier run had another number of parts."""
    options = outputs.options
    others = [p for p in outputs.records.glob(LEDGERS) if parts_of(p) != options.num_parts and has_begun(p)]
    if others:
        raise SettingsError(
            f"{options.out} was filled in {parts_of(others[0])} parts, not {options.num_parts}; "
            "use the same --num-parts, or --overwrite to start over"
        )


def remove_blank_ledgers(outputs: Outputs) -> None:
    """Remove ledgers of another number of parts that no run has begun: a power cut may leave them."""
    for file in outputs.records.glob(LEDGERS):
        if parts_of(file) != outputs.part.count and not has_begun(file):
            remove_ledger(file)


def check_agreement(
    options: RunOptions,
    recorded: Mapping[str, Any],
    settings: Mapping[str, Any],
    machine: Mapping[str, Any],
    moved: Callable[[], bool] = lambda: False,
) -> str:
    """Raise SettingsError for other settings than the recorded ones, and for another machine, or another place of the
    inputs that they were not just `moved` to, unless `resume` allows it.

    Returns in words what differs then.
    """
    if changed := differences(recorded["settings"], settings):
        raise SettingsError(
            f"{options.out} was made with other settings: {changed}; use the same, another --out, or "
            "--overwrite to start over"
        )
    places, versions = differences_of_machines(recorded["machine"], machine, options)
    changed = ", ".join(filter(None, (places, versions)))
    if versions and options.resume != "continue":
        raise SettingsError(
            f"{options.out} was begun under other circumstances: {changed}; "
            "--accept-changed-environment goes on all the same "
            "(labels may differ where two classes tie), --overwrite starts over"
        )
    if places and options.resume != "continue" and not (are_gone(recorded["machine"], machine, options) and moved()):
        raise SettingsError(
            f"{options.out} was filled from another place, which is still there or held other images: {places}; "
            "--accept-changed-environment goes on with the images that are there now "
            "(labels do not depend on where images lie), --overwrite starts over"
        )
    return changed


def are_gone(before: Mapping[str, Any], now: Mapping[str, Any], options: RunOptions) -> bool:
    """Tell whether nothing is left in the places of the inputs that differ from those of now."""
    places = (before.get(name) for name in places_of(options) if before.get(name) != now.get(name))
    return not any(place and os.path.lexists(split_hdf5_name(place)[0]) for place in places)


def holds_recorded(source: ImageSource, ledger: Ledger) -> bool:
    """Tell whether inputs that ended in earlier runs are in the source, and none of them has changed: it was moved, or
    copied with its times, and every label map stays that of its image. Also if none has ended yet."""
    known = False
    for group in chunks((listed for listed in source if isinstance(listed, Reference)), LOOKED_UP_AT_ONCE):
        rows = ledger.rows([reference.key for reference in group])
        for reference in group:
            row = rows.get(reference.key)
            if row is None or not row.fingerprint:
                continue
            if row.fingerprint != fingerprint_of(source, reference):
                return False
            known = True
    return known or not ledger.counts()


def differences_of_machines(before: Mapping[str, Any], now: Mapping[str, Any], options: RunOptions) -> tuple[str, str]:
    """Return in words how the places of the inputs differ, and how the device and the libraries do."""
    places = places_of(options)
    return (
        differences(*({name: value for name, value in each.items() if name in places} for each in (before, now))),
        differences(*({name: value for name, value in each.items() if name not in places} for each in (before, now))),
    )


def places_of(options: RunOptions) -> set[str]:
    """Return the names under which the places of the inputs are recorded."""
    return {"source", LISTED_BELOW, *options.companions}


def start_over(outputs: Outputs, hooks: Hooks) -> None:
    """Remove the outputs of earlier runs of this part, as far as they are as they were written, and its ledger.

    Only the folders that this run writes to are cleared.
    All parts are removed if the run was in another number of parts.
    """
    refuse_writers(outputs.records, outputs.options.out)
    for file in outputs.records.glob(LEDGERS):
        if file == outputs.ledger_file or parts_of(file) != outputs.part.count:  # no other part of the same run
            remove_recorded(file, outputs.folder, outputs.holds, hooks.on_note)
    for staging in outputs.hdf5_files:
        rmtree(staging, ignore_errors=True)


def refuse_writers(records: Path, out: str | Path) -> None:
    """Raise SettingsError if a process works on an output that is to be started over."""
    for process in living_claimants(records):
        raise SettingsError(f"{process} is writing to {out}; end it before --overwrite: {process.remedy}")


def remove_recorded(file: Path, folder: Path, holds: Callable[[str], bool], on_note: Callable[[str], None]) -> None:
    """Remove a ledger, and the outputs it records where they may be by `holds` and are as they were written: anybody
    may have written the ledger."""
    try:
        with SqliteLedger(file, folder) as ledger:
            files = (*recorded_volumes(ledger).values(), *recorded_tables(ledger).values())
            for output in chain(chain.from_iterable(ledger.outputs()), files):
                path = absolute_path(ledger.folder, output.path)
                if holds(path) and is_intact(ledger.folder, output):
                    Path(path).unlink()
    except OutputError as error:
        on_note(f"{error}; it is removed, and what it knew of is left where it is")
    remove_ledger(file)


def settings_of(options: RunOptions, recipe: Recipe, info: EngineInfo) -> dict[str, Any]:
    """Return everything that labels follow from, by the names of the options."""
    calibration = read_record(info.file).identity.calibration if info.file else None
    return {
        "model": info.model,
        "recipe": recipe_hash(recipe)[:16],
        "weights": info.weights_sha256[:16],
        "backend": info.backend,
        "precision": info.precision,
        "calibration": calibration and calibration[:16],
        "layout": options.layout,
        "probabilities": absolute_place(os.fspath(options.probabilities)) if options.probabilities else None,
        "probabilities-dtype": options.probabilities_dtype if options.probabilities else None,
        "top-k": options.top_k,
        "overlay": absolute_place(os.fspath(options.overlay)) if options.overlay else None,
        "opacity": options.opacity if options.overlay else None,
        "colour-png": absolute_place(os.fspath(options.colour_png)) if options.colour_png else None,
        "mask": _chosen_in(options.mask),
        "cutout": _chosen_in(options.cutout),
        "classes": options.classes,
        "yolo": absolute_place(os.fspath(options.yolo)) if options.yolo else None,
        "polygon-tolerance": options.polygon_tolerance,
        **{name: absolute_place(os.fspath(place)) for name, place in options.tables.items()},
        "sink": ", ".join(filter(None, map(_chosen_in, options.sinks.items()))) or None,
        "out-format": options.out_format if options.out_format != "files" else None,
    }


def _chosen_in(value: tuple[str, str | Path] | None) -> str | None:
    """Return in words the classes and the place of one kind of output."""
    return f"{value[0]} in {absolute_place(os.fspath(value[1]))}" if value else None


def machine_of(options: RunOptions, info: EngineInfo, source: ImageSource) -> dict[str, str]:
    """Return what may change with `resume="continue"`: the inputs' places, the device and the libraries."""
    return {**input_places(options, source), "device": info.device, **info.versions, **plugin_versions(options)}


def plugin_versions(options: RunOptions) -> dict[str, str]:
    """Return the packages, with their versions, of the plug-ins that a run uses."""
    scheme = plugin_scheme(os.fspath(options.source))
    used = [find_plugin(SOURCES, scheme, "install one")] if scheme else []
    used += [plugin_of(text) for text in options.sinks]
    return {f"{KINDS[plugin.group]} {plugin.name}": f"{plugin.package} {plugin.version}" for plugin in used}


def input_places(options: RunOptions, source: ImageSource) -> dict[str, str]:
    """Return the places of the inputs, by the names under which they are recorded."""
    place = os.fspath(options.source)
    places = {"source": place if place == "-" else absolute_place(place)}
    if source.root:
        places[LISTED_BELOW] = source.root
    return places | {name: absolute_place(os.fspath(folder)) for name, folder in options.companions.items()}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in words how two records differ; empty if they do not."""
    return ", ".join(
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in (*now, *(name for name in before if name not in now))
        if before.get(name) != now.get(name)
    )
