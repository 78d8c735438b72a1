"""Images named in a text of URLs, one a line, of any buckets."""

from __future__ import annotations

import threading
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from typing import Any

from fcnseg.errors import NoObjectError, SettingsError, SourceError, UnusableKeyError
from fcnseg.io.bucket_images import read_object
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.images import OnSize
from fcnseg.io.lists import entries
from fcnseg.io.names import stem_of
from fcnseg.io.seekable import RandomAccess, reader_of
from fcnseg.io.urls import is_url, join_url, parse_url
from fcnseg.io.waiting import map_ahead
from fcnseg.types import Pixels, Reference

LOOKS_AT_ONCE = 32
"""The requests that are waited for at once."""


class UrlList:
    """The objects that a text names, in its order. Keys are relative to the deepest prefix above all of them.

    Names that are no URLs count from `base`, the URL that the list lies in. Raises SourceError for others where there
    is no such URL, and for storages of two kinds. Objects are looked at as they are listed, many at once.
    """

    def __init__(self, name: str, text: RandomAccess, base: str, options: Mapping[str, str]) -> None:
        self.name, self._text, self._base, self._options = name, text, base, options
        self._buckets: dict[str, Bucket] = {}
        self._lock = threading.Lock()
        self.common: str | None = None

    def __iter__(self) -> Iterator[Reference]:
        if self.common is None:
            self.common = self._deepest_common_prefix()
        start = len(self.common) + (not self.common.endswith("/"))
        yield from map_ahead(lambda url: self._reference(url, start), self._urls(), LOOKS_AT_ONCE)

    def _reference(self, url: str, start: int) -> Reference:
        return Reference(url[start:], stem_of(url[start:]), self.fingerprint([url]), [url])

    def _deepest_common_prefix(self) -> str:
        common: list[str] = []
        for url in self._urls():
            parts = url.split("/")[:-1]
            common = [ours for ours, theirs in zip(common, parts, strict=False) if ours == theirs] if common else parts
            if len(common) < 2:
                raise SourceError(f"{self.name} names storages of two kinds; give a list of each")
        return "/".join(common)

    def _urls(self) -> Iterator[str]:
        lines = (line.removeprefix(BOM_UTF8) for line in reader_of(self._text))
        for entry in entries(lines):
            try:
                text = entry.decode()
                is_relative = not is_url(text) and self._base and not text.startswith("/")
                yield str(parse_url(join_url(self._base, text) if is_relative else text))
            except (UnicodeDecodeError, SettingsError) as error:
                raise SourceError(f"{self.name} names what is no URL of an image: {error}") from error

    def _object(self, url: str) -> tuple[Bucket, str]:
        parsed = parse_url(url)
        root = str(parsed._replace(key=""))
        with self._lock:
            if root not in self._buckets:
                self._buckets[root] = open_store(root, self._options)
            return self._buckets[root], parsed.key

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Read and decode one object."""
        bucket, key = self._object(location[0])
        return read_object(bucket, key, modality, max_pixels, on_size)

    def fingerprint(self, location: Any) -> str:
        """Return a text that changes when the object does; empty if it is gone."""
        bucket, key = self._object(location[0])
        try:
            return bucket.head(key).fingerprint
        except (NoObjectError, UnusableKeyError):
            return ""

    def close(self) -> None:
        """Release the list."""
        self._text.close()
