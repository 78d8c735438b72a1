"""Outputs of a run in shards: places on a storage or in folders, checked before the first image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.io.buckets import open_store
from fcnseg.io.parts import Part
from fcnseg.io.remote_folder import open_folder
from fcnseg.io.tar_folder import TarFolder, generation_of, tar_key
from fcnseg.io.urls import is_url
from fcnseg.recipes import Recipe
from fcnseg.running.name_rules import NameRules
from fcnseg.running.options import RunOptions
from fcnseg.running.output_kinds import check_kinds, kind_of, places_by_kind
from fcnseg.running.sharded.places import Shard
from fcnseg.running.tables import Table, table_places
from fcnseg.types import EngineInfo, OutputName, Reference, Sink, Storage


class ShardedOutputs:
    """The places that a run in shards writes to.

    Raises SettingsError for outputs that the model cannot have.
    """

    def __init__(self, options: RunOptions, recipe: Recipe) -> None:
        self.options, self.folder = options, str(options.out)
        self.heads = {head.name: head.labels for head in recipe.heads}
        check_kinds(options, recipe)
        self.tables = table_places(options, Part())
        self.places = {kind: str(place) for kind, place in places_by_kind(options).items()}

    @cached_property
    def storages(self) -> dict[str, Storage]:
        """The storage of each kind of output."""
        return {kind: open_folder(place, self.options.storage_options) for kind, place in self.places.items()}

    def sinks(self, info: EngineInfo, storages: Mapping[str, Storage] | None = None) -> list[Sink]:
        """Return a sink for each kind of output, for the predictions of an engine, in other storages if given."""
        places = (storages or self.storages).items()
        return [kind_of(kind).sink(storage, info, self.options) for kind, storage in places]

    def archives(self, shard: Shard) -> dict[str, TarFolder]:
        """Return the tar of a shard for each kind of output; none if outputs are files of their own."""
        if self.options.out_format != "tar":
            return {}
        options, key = self.options.storage_options, tar_key(*shard)
        return {kind: TarFolder(open_store(place, options), key, place) for kind, place in self.places.items()}

    def table_makers(self, info: EngineInfo) -> dict[str, Table]:
        """Return what the images of a run add to its tables."""
        return {place.name: place.kind.make(str(place.target), info, self.options) for place in self.tables}

    def names(self, kind: str) -> tuple[OutputName, ...]:
        """Return the names of the files of every image in the place of one kind of output."""
        return kind_of(kind).names(self.heads, self.options)

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
        is_tar = self.options.out_format == "tar"
        taken: dict[str, set[int]] = {}
        for kind, place in self.places.items():
            for found in open_store(place, self.options.storage_options).list():
                if is_tar and generation_of(found.key) is not None:
                    raise _foreign(f"{place}/{found.key}")
                taken.setdefault(kind, set()).add(hash(found.key))

        names = {kind: self.names(kind) for kind in taken}

        def refuse_taken(reference: Reference) -> None:
            for kind, hashes in taken.items():
                for name in (name.of(reference.stem) for name in names[kind]):
                    if hash(name) in hashes:
                        raise _foreign(f"{self.places[kind]}/{name}")

        return (lambda reference: None) if is_tar else refuse_taken


def _foreign(place: str) -> SettingsError:
    return SettingsError(f"{place} exists and no run of fcnseg made it; use --overwrite to replace it")
