"""Sources of plug-ins: what another package lists and loads, checked, with its failures told as its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from fcnseg.errors import FcnsegError, ImageError, SettingsError, SourceError
from fcnseg.io.image_source import ImageSource
from fcnseg.io.images import OnSize
from fcnseg.plugins import SOURCES, Plugin, described, find_plugin
from fcnseg.types import Failure, Frame, Pixels, Reference, Reserve, Source

FORMS = {"color": (np.dtype(np.uint8), 3), "hha": (np.dtype(np.uint8), 3), "depth": (np.dtype(np.float32), 1)}
"""The dtype and the channels of each modality."""


def open_plugin_source(
    scheme: str, url: str, modalities: tuple[str, ...], pattern: str | None, max_pixels: int
) -> ImageSource:
    """Open `NAME://PLACE` by the plug-in of that name.

    Raises SettingsError if there is none or it does not import, SourceError if it cannot read the place.
    """
    remedy = f"{url} is of no storage either: give a path, or s3://, gs://, az:// or file://"
    plugin = find_plugin(SOURCES, scheme, remedy)
    open_source = plugin.load()
    with plugin.errors_as(SourceError, f"to open {url}"):
        source = open_source(url[len(scheme) + 3 :])
    if not isinstance(source, Source):
        raise SettingsError(
            f"{plugin} gave a {type(source).__name__}, which is no source; {plugin.package} must mend it"
        )
    return PluginSource(url, plugin, source, modalities, pattern, max_pixels)


class PluginSource(ImageSource):
    """The source of a plug-in. What it lists is checked, and so are the images: none that is not as it must be goes on,
    and an error of the plug-in is that of the image, or of the source while it lists."""

    def __init__(
        self,
        name: str,
        plugin: Plugin,
        source: Source,
        modalities: tuple[str, ...],
        pattern: str | None,
        max_pixels: int,
    ) -> None:
        super().__init__(name, _PluginListing(plugin, source), modalities[0], None, pattern, max_pixels)
        self._plugin, self._source, self._modalities = plugin, source, modalities

    def locations(self, reference: Reference) -> dict[str, Any]:
        """Return nothing: only the plug-in knows where its images are."""
        del reference
        return {}

    def fingerprint(self, reference: Reference) -> str:
        """Return the plug-in's fingerprint of an image. Raises ImageError if it has none."""
        with self._plugin.errors_as(ImageError, "to tell whether the image has changed"):
            fingerprint = reference.fingerprint or self._source.fingerprint(reference)
        if not isinstance(fingerprint, str):
            raise ImageError(f"{self._plugin} gave no text as fingerprint, but {type(fingerprint).__name__}")
        return fingerprint

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """Load one image. Raises ImageError if the plug-in cannot, or it is not as images must be."""
        once = _Once(reserve)
        try:
            frame = self._source.load(reference, once)
        except FcnsegError:
            raise
        except Exception as error:
            if error is once.error:  # the run is ending
                raise
            raise ImageError(f"{self._plugin} failed to load it: {described(error)}") from error
        try:
            return replace(frame, key=reference.key, stem=reference.stem, inputs=self._checked(frame))
        except (TypeError, AttributeError) as error:
            raise ImageError(f"{self._plugin} gave a {type(frame).__name__} in place of a Frame") from error

    def _checked(self, frame: Frame) -> dict[str, Pixels]:
        inputs = {}
        for name in self._modalities:
            if name not in frame.inputs:
                given = " and ".join(frame.inputs) or "nothing"
                raise ImageError(f"{self._plugin} gave {given}; the model takes {' and '.join(self._modalities)}")
            pixels, (dtype, channels) = np.asarray(frame.inputs[name]), FORMS[name]
            if pixels.dtype != dtype or pixels.ndim != 3 or pixels.shape[2] != channels or not pixels.size:
                shape = " x ".join(map(str, pixels.shape))
                raise ImageError(
                    f"{self._plugin} gave {name} as {pixels.dtype} {shape}; it must be {dtype} H x W x {channels}"
                )
            inputs[name] = np.ascontiguousarray(pixels)
        sizes = {pixels.shape[:2] for pixels in inputs.values()}
        if len(sizes) > 1:
            raise ImageError(f"{self._plugin} gave modalities of several sizes; they must be of one")
        height, width = sizes.pop()
        if height * width > self.max_pixels:
            raise ImageError(
                f"{width} x {height} are more than the {self.max_pixels:,} pixels that --max-pixels allows"
            )
        return inputs

    def size(self, reference: Reference) -> tuple[int, int] | None:
        """Return None: only loading an image would tell."""
        del reference
        return None

    def close(self) -> None:
        """Close the plug-in's source."""
        with self._plugin.errors_as(SourceError, "to close its source"):
            self._source.close()


class _Once:
    """Reserves memory at the first call alone; keeps what that raises."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve, self._called = reserve, False
        self.error: BaseException | None = None

    def __call__(self, nbytes: int) -> None:
        if self._called:
            return
        self._called = True
        try:
            self._reserve(nbytes)
        except BaseException as error:
            self.error = error
            raise


class _PluginListing:
    """The listing of a plug-in's source, as a collection of images that only the plug-in reads."""

    def __init__(self, plugin: Plugin, source: Source) -> None:
        self._plugin, self._source = plugin, source

    def __iter__(self) -> Iterator[Reference | Failure]:
        with self._plugin.errors_as(SourceError, "to list its images"):
            for listed in self._source:
                yield listed if isinstance(listed, Failure) else self._checked(listed)

    def _checked(self, listed: Any) -> Reference | Failure:
        """Return a reference, or a failure for a stem that would lead out of the output folder."""
        if not isinstance(listed, Reference) or not isinstance(listed.key, str):
            raise SourceError(f"{self._plugin} listed a {type(listed).__name__}; it must list references with a key")
        try:
            json.dumps(listed.location)
        except (TypeError, ValueError) as error:
            raise SourceError(f"{self._plugin} listed {listed.key} at a location that JSON cannot hold") from error
        if is_inside(listed.stem):
            return listed
        return Failure(listed.key, "list", f"{self._plugin} would have its output called {listed.stem!r}")

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Read nothing: `PluginSource` loads."""
        del modality, max_pixels, on_size
        raise ImageError(f"{location} is read by {self._plugin}")

    def close(self) -> None:
        """Hold nothing open."""


def is_inside(stem: str) -> bool:
    """Tell whether a stem is a relative path of plain parts: no `..`, nothing empty, no NUL."""
    parts = stem.split("/")
    return "\0" not in stem and not PurePosixPath(stem).is_absolute() and not {"", ".", ".."} & set(parts)
