"""Outputs of a run in shards: places on a storage or in folders, checked before the first image."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.io.buckets import open_store
from fcnseg.io.names import RECORDS
from fcnseg.io.remote_folder import open_folder
from fcnseg.io.urls import is_url
from fcnseg.recipes import Recipe
from fcnseg.running.name_rules import NameRules
from fcnseg.running.options import RunOptions
from fcnseg.running.outputs import places_by_kind, sink_of, suffix_of
from fcnseg.running.sinks import FileSink, output_names, overlaid_modality
from fcnseg.types import EngineInfo, OutputName, Reference, Storage


class ShardedOutputs:
    """The places that a run in shards writes to.

    Raises SettingsError for overlays of a model that takes no images to draw over.
    """

    def __init__(self, options: RunOptions, recipe: Recipe) -> None:
        self.options, self.folder = options, str(options.out)
        self.heads = {head.name: head.labels for head in recipe.heads}
        if options.overlay:
            overlaid_modality(recipe.name, recipe.modalities)
        self.places = {kind: str(place) for kind, place in places_by_kind(options).items()}

    @cached_property
    def storages(self) -> dict[str, Storage]:
        """The storage of each kind of output."""
        return {kind: open_folder(place, self.options.storage_options) for kind, place in self.places.items()}

    def sinks(self, info: EngineInfo) -> list[FileSink]:
        """Return a sink for each kind of output, for the predictions of an engine."""
        return [sink_of(kind, storage, info, self.options) for kind, storage in self.storages.items()]

    def names(self, kind: str) -> tuple[OutputName, ...]:
        """Return the names of the files of every image in the place of one kind of output."""
        return tuple(output_names(self.heads, suffix_of(kind, self.options.top_k)).values())

    @property
    def suffixes(self) -> set[str]:
        """The suffixes of all outputs."""
        return {name.suffix for kind in self.places for name in self.names(kind)}

    @property
    def rules(self) -> NameRules:
        """The rules for names of the places that are folders; on storages, only equal names are one."""
        return NameRules(Path(place) for place in self.places.values() if not is_url(place))

    def check(self) -> Callable[[Reference], None]:
        """Return a check of inputs, which raises SettingsError for one whose output would replace a file that no run
        made. What lies in the places is listed for it; to be used where no run has been."""
        existing = {
            kind: {hash(found.key) for found in open_store(place, self.options.storage_options).list()}
            for kind, place in self.places.items()
        }
        taken = {kind: hashes for kind, hashes in existing.items() if hashes}

        def refuse_taken(reference: Reference) -> None:
            for kind, hashes in taken.items():
                for name in (name.of(reference.stem) for name in self.names(kind)):
                    if hash(name) in hashes:
                        place = f"{self.places[kind]}/{name}"
                        raise SettingsError(
                            f"{place} exists and no run of fcnseg made it; use --overwrite to replace it"
                        )

        return refuse_taken


def refuse_record_names(reference: Reference, rules: NameRules) -> None:
    """Raise SettingsError for an input whose output would lie among the records."""
    if rules.fold(reference.stem).startswith((f"{RECORDS}/", f"{RECORDS}.")):
        raise SettingsError(f"{reference.key} would be written among the records of the run; rename it")
