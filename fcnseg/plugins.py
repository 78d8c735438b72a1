"""Plug-ins: sources and sinks that other packages add by entry points, imported only when they are asked for.

[project.entry-points."fcnseg.sources"]
tiles = "my_package:TileSource"    # called with PLACE of tiles://PLACE, returns a `Source`

[project.entry-points."fcnseg.sinks"]
areas = "my_package:AreaSink"      # called with a Storage, the heads and the text after the name, returns a `Sink`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from fcnseg.errors import FcnsegError, SettingsError
from fcnseg.labels import LabelSpace
from fcnseg.types import Sink, Source, Storage

SOURCES, SINKS = "fcnseg.sources", "fcnseg.sinks"
"""The groups of entry points."""

KINDS = {SOURCES: "source", SINKS: "sink"}
"""What a plug-in of each group is."""


class OpenSource(Protocol):
    """An entry point of SOURCES: a class or function."""

    def __call__(self, place: str) -> Source:
        """Return the source of what stands behind `NAME://`. Raises SourceError for a place that cannot be read."""


class MakeSink(Protocol):
    """An entry point of SINKS: a class or function. Made more than once in a run, so cheap, and writing nothing."""

    def __call__(self, storage: Storage, heads: Mapping[str, LabelSpace], argument: str) -> Sink:
        """Return a sink that writes to a storage, for a model of these heads.

        `argument` is what stands after the name, `--sink NAME:ARGUMENT=DIR`, or empty. Raises SettingsError for one
        that is not understood.
        """


@dataclass(frozen=True)
class Plugin:
    """An entry point of another package, not imported yet."""

    group: str
    name: str
    package: str
    version: str
    entry_point: EntryPoint

    def __str__(self) -> str:
        return f"the plug-in {self.name} of {self.package} {self.version}"

    def load(self) -> Any:
        """Import the package and return what the entry point names. Raises SettingsError if that fails."""
        try:
            loaded = self.entry_point.load()
        except (Exception, SystemExit) as error:
            remedy = f"mend or reinstall {self.package}, or leave the plug-in out"
            raise SettingsError(f"{self} does not import: {described(error)}; {remedy}") from error
        if not callable(loaded):
            raise SettingsError(f"{self} is {type(loaded).__name__} and cannot be called; {self.package} must mend it")
        return loaded

    @contextmanager
    def errors_as(self, kind: type[FcnsegError], doing: str) -> Iterator[None]:
        """Raise its errors as one of that kind, which names it in one line; those of fcnseg stay as they are."""
        try:
            yield
        except FcnsegError:
            raise
        except Exception as error:
            raise kind(f"{self} failed {doing}: {described(error)}") from error


def described(error: BaseException) -> str:
    """Return an error's kind and words in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def plugins(group: str) -> list[Plugin]:
    """Return the installed plug-ins of a group by name, without importing any."""
    found = [
        Plugin(
            group, point.name, point.dist.name if point.dist else "?", point.dist.version if point.dist else "", point
        )
        for point in entry_points(group=group)
    ]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.package))


@dataclass(frozen=True)
class InspectedPlugin:
    """An installed plug-in, a "source" or a "sink". `problem`: why it cannot be used, in one line; empty if it can."""

    kind: str
    name: str
    package: str
    version: str
    problem: str


def inspect_plugins() -> list[InspectedPlugin]:
    """Import all plug-ins, and return them with the reasons of those that cannot be used."""
    found = []
    for group, kind in KINDS.items():
        for plugin in plugins(group):
            problem = ""
            try:
                find_plugin(group, plugin.name, "").load()
            except SettingsError as error:
                problem = str(error)
            found.append(InspectedPlugin(kind, plugin.name, plugin.package, plugin.version, problem))
    return found


def find_plugin(group: str, name: str, remedy: str) -> Plugin:
    """Return the plug-in of that name. Raises SettingsError if there is none, which names the nearest and ends with the
    `remedy`, or if several packages have one."""
    installed = plugins(group)
    same = [plugin for plugin in installed if plugin.name.lower() == name.lower()]
    if len(same) == 1:
        return same[0]
    kind = KINDS[group]
    if same:
        packages = " and ".join(plugin.package for plugin in same)
        raise SettingsError(f"{packages} all have a {kind} {name}; uninstall all but one")
    known = [plugin.name for plugin in installed]
    near = difflib.get_close_matches(name, known, n=1)
    others = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}" if known else "none is installed"
    raise SettingsError(f"no plug-in has a {kind} {name}, {others}; {remedy}")
