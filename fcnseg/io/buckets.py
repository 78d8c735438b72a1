"""Buckets of object storage, and local folders used as such, by obstore.

Requests are repeated by the client while the storage throttles, fails or does not answer (503, 5xx, time-outs), for
`retry_timeout` at most; whatever it then says is translated here, once, into the errors of `fcnseg.errors`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from fcnseg.errors import NoObjectError, ObjectExistsError, SettingsError, StorageError, require
from fcnseg.io.storage_errors import AGAIN, storage_error
from fcnseg.io.urls import is_url, parse_url
from fcnseg.io.waiting import interruptible

KEYS_A_PAGE = 1000

CLIENT_OPTIONS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)
"""The options of the HTTP client; all others are those of the storage."""

ALLOW_HTTP = ("AWS_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
"""Variables of the environment that allow unencrypted requests: obstore forgets them where other options are given."""

VARIABLES = ("AWS_", "AZURE_", "GOOGLE_")
"""The variables that obstore looks at, by their beginnings."""

Pairs = tuple[tuple[str, str], ...]

NOT_PARTIAL = "non-partial response"
"""What obstore says of servers that answer with the whole object, as some do where the range is all of it."""

MAX_RETRIES, RETRY_SECONDS = 10, 120
"""Repetitions of a request that the storage could not answer, and the seconds that they may take in all. Credentials
are not renewed between them: both are options, `max_retries` and `retry_timeout`."""


class ObjectInfo(NamedTuple):
    """One object of a listing: its key below the bucket's URL, bytes, ETag (empty where there is none), and time."""

    key: str
    size: int
    etag: str
    modified: datetime

    @property
    def fingerprint(self) -> str:
        """A text that changes when the object does."""
        return f"{self.size}-{self.etag.strip(chr(34)) or self.modified.timestamp()}"


@dataclass(frozen=True)
class Bucket:
    """The objects below a URL (`s3://bucket/prefix`) or a local folder; keys are relative to it.

    Nothing is opened before the first request; a copy may be sent to another process. Safe to use from several threads.
    Every method raises StorageError, of the kind that `fcnseg.errors` lists.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)  # they may hold secrets

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.url, dict(self.options))

    @cached_property
    def _prefix(self) -> str:
        key = parse_url(self.url).key
        return f"{key}/" if key else ""

    @cached_property
    def _store(self) -> Any:
        root, options = str(parse_url(self.url)._replace(key="")), tuple(sorted(self.options.items()))
        environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith(VARIABLES)))
        return _store(root, options, environment)

    def put(
        self,
        key: str,
        content: bytes | memoryview | Iterator[bytes],
        *,
        create_only: bool = False,
        replaces: str | None = None,
    ) -> str:
        """Write an object whole, or not at all; returns its ETag. Content that is iterated over may be of any length.

        `create_only`: raises ObjectExistsError if there is one. `replaces`: raises it unless the ETag is still this.
        """
        if replaces and self._is_local:
            return self._replace_local(key, content, replaces)
        mode: Any = "create" if create_only else {"e_tag": replaces} if replaces else "overwrite"
        result = self._ask(key, lambda: self._store.put(self._prefix + key, content, mode=mode))
        return str(result.get("e_tag") or "")

    def _replace_local(self, key: str, content: bytes | memoryview | Iterator[bytes], replaces: str) -> str:
        """Do what file systems cannot: look and write at once, among processes that use the same lock file."""
        with FileLock(f"/{self._prefix}{key}.lock"):
            if self.head(key).etag != replaces:
                raise ObjectExistsError(f"{self.url_of(key)} has changed since it was read; {AGAIN}")
            return self.put(key, content)

    @property
    def _is_local(self) -> bool:
        return parse_url(self.url).scheme == "file"

    def get(self, key: str, check_size: Callable[[int], None] = lambda size: None) -> bytes:
        """Read an object. `check_size` is called with its bytes before they are read, and may raise.

        Raises NoObjectError if there is none.
        """
        answer = self._ask(key, lambda: self._store.get(self._prefix + key))
        check_size(answer.meta["size"])
        return bytes(self._ask(key, lambda: answer.bytes()))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset`, which must lie within the object."""
        path = self._prefix + key
        try:
            return bytes(self._ask(key, lambda: self._store.get_range(path, start=offset, length=length)))
        except StorageError as error:
            if NOT_PARTIAL not in str(error.__cause__):
                raise
        return self.get(key)[offset : offset + length]

    def head(self, key: str) -> ObjectInfo:
        """Look at an object. Raises NoObjectError if there is none."""
        path = self._prefix + key
        try:
            return self._info(self._ask(key, lambda: self._store.head(path)))
        except StorageError:  # answers to HEAD say no reason: those to GET do
            return self._info(self._ask(key, lambda: self._store.get(path).meta))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List the objects below `prefix` (whole parts of keys), a page at a time, in no particular order."""
        path = (self._prefix + prefix).rstrip("/")
        pages = self._ask(prefix, lambda: self._store.list(path, chunk_size=KEYS_A_PAGE))
        while (page := self._ask(prefix, lambda: next(pages, None))) is not None:
            yield from map(self._info, page)

    def list_folder(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List the objects right below `prefix`, and none that have further parts."""
        path = (self._prefix + prefix).rstrip("/")
        answer = self._ask(prefix, lambda: self._store.list_with_delimiter(path))
        yield from map(self._info, answer["objects"])

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no fault."""
        with suppress(NoObjectError):
            self._ask(key, lambda: self._store.delete(self._prefix + key))

    def url_of(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{self.url}/{key}" if key else self.url

    def _info(self, meta: Any) -> ObjectInfo:
        return ObjectInfo(
            meta["path"][len(self._prefix) :], meta["size"], meta.get("e_tag") or "", meta["last_modified"]
        )

    def _ask(self, key: str, request: Callable[[], Any]) -> Any:
        try:
            return interruptible(request)
        except Exception as error:
            raise storage_error(error, self.url_of(key)) from error


def open_store(place: str | os.PathLike[str], options: Mapping[str, str] | None = None) -> Bucket:
    """Return the bucket of a URL or of a local folder, which need not exist yet.

    `options` are those of obstore for the storage (`region`, `endpoint` ...) and its client (`timeout`, `allow_http`
    ...), and `max_retries` and `retry_timeout` (seconds); credentials also come from the environment. Raises
    SettingsError without obstore, for a scheme that is not known, and for options that are not.
    """
    url = str(parse_url(place)) if is_url(place) else Path(os.path.abspath(place)).as_uri()
    require("obstore")
    bucket = Bucket(url, dict(options or {}))
    _ = bucket._store
    return bucket


def parse_storage_options(pairs: Iterable[str]) -> dict[str, str]:
    """Return the options of `KEY=VALUE` texts. Raises SettingsError for others."""
    options = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark or not key.strip():
            raise SettingsError(f"--storage-option {pair} is no KEY=VALUE; give, for example, region=eu-central-1")
        options[key.strip().lower()] = value
    return options


@lru_cache(maxsize=64)
def _store(url: str, options: Pairs, environment: Pairs) -> Any:  # noqa: ARG001 - obstore looks it up
    """Return obstore's store of a whole bucket, one in this process, for it keeps connections.

    Raises SettingsError for options that it does not know.
    """
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, from_url

    construct: Any = from_url  # its overloads are one a storage
    given = dict(options)
    retries = {
        "max_retries": _number(given, "max_retries", MAX_RETRIES),
        "retry_timeout": timedelta(seconds=_number(given, "retry_timeout", RETRY_SECONDS)),
    }
    if url.startswith("file:"):
        return LocalStore("/")
    client = {name: given.pop(name) for name in sorted(CLIENT_OPTIONS & given.keys())}
    if allowed := next(filter(None, map(os.environ.get, ALLOW_HTTP)), None):
        client.setdefault("allow_http", allowed)
    try:
        return construct(url, config=given, client_options=client or None, retry_config=retries)
    except (BaseError, ValueError) as error:
        said = " ".join(str(error).partition("Debug source")[0].split()).rstrip(".")
        raise SettingsError(f"{url} cannot be used: {said}; see --storage-option and the environment") from error


def _number(options: dict[str, str], name: str, default: int) -> int:
    text = options.pop(name, str(default))
    if not text.isdecimal():
        raise SettingsError(f"--storage-option {name}={text} is no whole number; give {name}={default}")
    return int(text)


def shown_options(options: Mapping[str, str]) -> dict[str, str]:
    """Return options for records and messages: values that may be secrets are left out."""
    plain = {"endpoint", "region", "allow_http", "timeout", "max_retries", "retry_timeout", "skip_signature"}
    return {name: value if name in plain else "..." for name, value in options.items()}
