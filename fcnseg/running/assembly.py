"""The HDF5 files of a run, written when all inputs have ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from fcnseg.io.atomic import new_digest
from fcnseg.io.locks import held
from fcnseg.running.intact import announce_volume, intact_staging_folders, note_volume, relative_path
from fcnseg.running.outputs import OutputPlace, Outputs
from fcnseg.running.records import ASSEMBLING
from fcnseg.running.volumes import LabelVolume, ProbabilityVolume, Volume, VolumeInput
from fcnseg.types import EngineInfo, Ledger, Reference, Source


def assemble(
    info: EngineInfo, source: Source, outputs: Outputs, ledger: Ledger, on_wait: Callable[[str], None]
) -> None:
    """Write the HDF5 files of a run from the staged images, unless they are whole and hold just those.

    One process at a time does; `on_wait` is told of a wait for another. Raises OutputError if a file cannot be written.
    """

    def inputs() -> Iterator[VolumeInput]:
        for listed in source:
            if isinstance(listed, Reference):
                yield VolumeInput(listed.key, listed.stem, getattr(listed.location, "number", None))

    with held(outputs.records / ASSEMBLING, "it writes the HDF5 files", on_wait):
        missing, content = _missing(source, ledger)
        known = ledger.fact("contents") or {}
        intact = intact_staging_folders(ledger)
        for place in outputs.places:
            if not place.is_hdf5:
                continue
            volume = _volume(place, info)
            staging = relative_path(ledger.folder, str(place.folder))
            keep = staging + os.sep in intact
            if not keep or volume.has_staged or known.get(staging) != content:
                announce = partial(announce_volume, ledger, place.folder)
                written = volume.assemble(inputs, missing, keep=keep, on_written=announce)
                note_volume(ledger, place.folder, written, content)
                volume.discard_staged()


def _missing(source: Source, ledger: Ledger) -> tuple[dict[str, str], str]:
    """Return the reasons of inputs without a result, and a digest of which inputs there are and which are missing."""
    failed = {failure.key: failure.reason for failure in ledger.failures()}
    missing, digest = {}, new_digest()
    for listed in source:
        if listed.key in failed:
            missing[listed.key] = failed[listed.key]
        digest.update(os.fsencode(f"{listed.key}\0{missing.get(listed.key, '')}\0"))
    return missing, digest.hexdigest()


def _volume(place: OutputPlace, info: EngineInfo) -> Volume:
    if place.name == "labels":
        return LabelVolume(place.target, info)
    return ProbabilityVolume(place.target, info, place.options.probabilities_dtype, place.options.top_k)
