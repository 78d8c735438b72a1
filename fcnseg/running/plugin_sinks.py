"""Sinks of plug-ins, `--sink NAME[:ARGUMENT]=DIR`: what they encode is checked before any of an image is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fcnseg.errors import ImageError, OutputError, SettingsError
from fcnseg.io.names import RECORDS
from fcnseg.io.plugin_source import is_inside
from fcnseg.labels import LabelSpace
from fcnseg.plugins import SINKS, Plugin, described, find_plugin
from fcnseg.types import Frame, Output, OutputName, Prediction, Sink, Storage

Heads = Mapping[str, LabelSpace]


def plugin_of(text: str) -> Plugin:
    """Return the plug-in of `NAME[:ARGUMENT]`. Raises SettingsError if there is none."""
    return find_plugin(SINKS, text.partition(":")[0], "install one, or leave out --sink")


def parse_sinks(texts: Iterable[str]) -> dict[str, str]:
    """Return the places by sink of texts `NAME[:ARGUMENT]=DIR`. Raises SettingsError for others."""
    places: dict[str, str] = {}
    for text in texts:
        sink, separator, place = text.partition("=")
        if not (separator and sink.partition(":")[0] and place):
            raise SettingsError(f"--sink {text} names no place; give NAME=DIR, or NAME:ARGUMENT=DIR")
        if sink in places:
            raise SettingsError(f"--sink {sink} is given twice; leave one out")
        places[sink] = place
    return places


def open_sink(text: str, storage: Storage, heads: Heads) -> PluginSink:
    """Return the sink of a plug-in for a storage and a model of these heads.

    Raises SettingsError if there is none, or it does not import, does not take its argument or is no sink.
    """
    plugin = plugin_of(text)
    make = plugin.load()
    with plugin.errors_as(SettingsError, f"to make --sink {text}"):
        return PluginSink(plugin, make(storage, heads, text.partition(":")[2]), storage)


def plugin_names(text: str, heads: Heads) -> tuple[OutputName, ...]:
    """Return the names of the files of every image. Raises SettingsError as `open_sink`."""
    return open_sink(text, _NoStorage(), heads).names


class PluginSink:
    """A plug-in's sink. Whatever it fails at is the failure of one image, whose other outputs are not written then.

    It cannot change what other sinks write. Raises SettingsError for what is no sink, and names that cannot be.
    """

    def __init__(self, plugin: Plugin, sink: Sink, storage: Storage) -> None:
        if not isinstance(sink, Sink):
            raise SettingsError(
                f"{plugin} gave a {type(sink).__name__}, which is no sink; {plugin.package} must mend it"
            )
        self._plugin, self._sink, self.storage = plugin, sink, storage
        self.names = tuple(OutputName(*name) for name in sink.names)
        for name in (each.of("a") for each in self.names):
            if not is_inside(name) or name.startswith(RECORDS):
                raise SettingsError(f"{plugin} would write {name}, which is no name for an output")

    def encode(self, frame: Frame, prediction: Prediction) -> list[tuple[str, list[bytes]]]:
        """Return the name and content of each file of one image. Raises ImageError, whatever the plug-in raises."""
        inputs = {name: _locked(pixels) for name, pixels in frame.inputs.items()}
        labels = {head: _locked(values) for head, values in prediction.labels.items()}
        values = {head: _locked(each) for head, each in (prediction.probabilities or {}).items()}
        try:
            files = [
                (str(name), [bytes(part) for part in content])
                for name, content in self._sink.encode(
                    replace(frame, inputs=inputs), Prediction(labels, values or None)
                )
            ]
        except Exception as error:
            raise ImageError(f"{self._plugin} failed to encode it: {described(error)}", "write") from error
        announced = sorted(name.of(frame.stem) for name in self.names)
        if sorted(name for name, _ in files) != announced:
            given = ", ".join(name for name, _ in files) or "nothing"
            raise ImageError(f"{self._plugin} encoded {given} in place of {', '.join(announced)}", "write")
        return files


def _locked(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of an array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


class _NoStorage:
    """The storage of a sink that is asked for its names alone."""

    root = ""

    def place(self, name: str, content: Iterable[bytes | memoryview]) -> Output:
        """Refuse to."""
        del content
        raise OutputError(f"{name} was to be written before the run began")

    def flush(self) -> None:
        """Have nothing to make durable."""
