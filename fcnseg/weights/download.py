"""Download a file over HTTP: resumable, bounded, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from fcnseg.errors import DownloadError
from fcnseg.io.atomic import write_whole
from fcnseg.weights.addresses import masked, split_address, without_secrets
from fcnseg.weights.pace import ANSWER_SECONDS, Connection, Pace, TooSlowError

ATTEMPTS = 4
"""Connections in a row without new bytes before giving up."""

TIMEOUT_SECONDS = 30.0

REDIRECTS = 20

RESERVE_BYTES = 512 * 2**20
"""Free space that a download leaves, or a twentieth of the disk if that is less."""

CHECKED_BYTES = 8 * 2**20
"""Bytes between two looks at the free space."""

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes received and, if known, the size of the file."""


class _ChangedError(Exception):
    """The file on the server is no longer the one that was begun."""


class _RefusedError(Exception):
    """The server's answer is not taken."""


class _WorthlessError(_RefusedError):
    """The server's answer is not taken, and the part that has come is no beginning of weights: it is deleted."""


class _NoRoomError(Exception):
    """The disk has no room for the file."""


class _Origin(NamedTuple):
    """The origin of a part: a hash of its URL (which may hold secrets), the server's validator, the file's size."""

    url_sha256: str
    validator: str
    total: int | None


def download(
    url: str, target: Path, by_hand: str, on_bytes: OnBytes = lambda here, total: None, largest: int = 2**33
) -> None:
    """Download `url` to `target` through `target.part`, which a later call resumes; at most `largest` bytes.

    It is resumed only if the server says that its file is unchanged (ETag or Last-Modified, in If-Range). A redirect
    from https to http is refused. Raises DownloadError, whose message ends with `by_hand`: what the user can do
    instead; it shows no secret of the URL.
    """
    if split_address(url) is None:
        raise DownloadError(f"the address is no http:// or https:// URL; {by_hand}")
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
            _fetch_all(client, url, part, on_bytes, largest)
        os.replace(part, target)
        _origin_file(part).unlink(missing_ok=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = without_secrets(str(error) or type(error).__name__, url)
        raise DownloadError(f"{masked(url)} cannot be fetched ({reason}); {by_hand}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC and _read_origin(part, url).total is None:
            _forget(part)  # a file without end
        raise DownloadError(f"cannot write {target}: {error.strerror or error}; {by_hand}") from error
    except _NoRoomError as error:
        raise DownloadError(f"{masked(url)} {error}; make room there, or {by_hand}") from error
    except (_RefusedError, TooSlowError) as error:
        if isinstance(error, _WorthlessError):
            _forget(part)
        raise DownloadError(f"{masked(url)} {error}; {by_hand}") from error


def _fetch_all(client: httpx.Client, url: str, part: Path, on_bytes: OnBytes, largest: int) -> None:
    """Reconnect after a break as long as new bytes arrive."""
    failures, best, pace = 0, _size(part), Pace()
    while True:
        try:
            return _fetch_rest(client, url, part, on_bytes, largest, pace)
        except (_ChangedError, httpx.TransportError) as error:
            if isinstance(error, _ChangedError):
                part.unlink(missing_ok=True)
            failures, best = (0, _size(part)) if _size(part) > best else (failures + 1, best)
            if failures >= ATTEMPTS or isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
                if isinstance(error, _ChangedError):
                    raise _WorthlessError("keeps changing") from error
                raise
            pace.add(0)


def _fetch_rest(client: httpx.Client, url: str, part: Path, on_bytes: OnBytes, largest: int, pace: Pace) -> None:
    """Append the missing bytes to `part`, or start over if the server cannot resume. Checks the length."""
    here, origin = _size(part), _read_origin(part, url)
    headers = {"Accept-Encoding": "identity"}
    if resuming := bool(here and origin.validator):
        headers |= {"Range": f"bytes={here}-", "If-Range": origin.validator}
    with _answer(client, url, headers) as response:
        _check_answer(response)
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            total = _whole_size(response, here, origin)
            if not resuming:
                raise _ChangedError
        else:
            total, here = _length(response), 0
        _check_size(part.parent, here, total, largest)
        if here == 0:
            part.write_bytes(b"")  # before it counts as a part of this file
            _write_origin(part, _Origin(_hash(url), _validator(response), total))

        def on_piece(here: int, nbytes: int) -> None:
            on_bytes(here, total)
            pace.add(nbytes)

        here = _append(response, part, here, total, on_piece, largest)
    if total is not None and here != total:
        raise httpx.RemoteProtocolError(f"{here} of {total} bytes came")


def _append(
    response: httpx.Response,
    part: Path,
    here: int,
    total: int | None,
    on_piece: Callable[[int, int], None],
    largest: int,
) -> int:
    """Write what comes, as far as it is allowed; return the size of the part. `on_piece` hears of it, and of the bytes
    of each piece."""
    checked = here
    with part.open("ab") as file:
        for chunk in response.iter_raw():
            here += len(chunk)
            if here > largest or (total is not None and here > total):
                raise _WorthlessError(f"sends more than {total or largest:,} bytes, which these weights cannot have")
            if here >= checked + CHECKED_BYTES:
                checked = here
                _check_room(part.parent, 0, endless=total is None)
            file.write(chunk)
            on_piece(here, len(chunk))
        file.flush()
        os.fsync(file.fileno())
    return here


@contextmanager
def _answer(client: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """Yield the answer to a GET, after redirects."""
    connection = Connection()
    request = client.build_request("GET", url, headers=headers, extensions={"trace": connection.trace})
    for _ in range(REDIRECTS + 1):
        with connection.cut_after(ANSWER_SECONDS):
            response = client.send(request, stream=True)
        try:
            following = response.next_request
            if following is None:
                yield response
                return
            if request.url.scheme == "https" and following.url.scheme != "https":
                raise _RefusedError("redirects from https to an address that is not encrypted")
            request = following
        finally:
            response.close()
    raise _RefusedError("redirects without end")


def _check_answer(response: httpx.Response) -> None:
    """Raise for an answer that does not hold the file."""
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise _ChangedError
    if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        # not `raise_for_status`: its message, which a traceback shows, holds the whole URL
        raise httpx.HTTPError(f"{response.status_code} {response.reason_phrase}".strip())
    if response.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml")):
        raise _RefusedError("answers with a web page instead of weights")
    if response.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise _RefusedError("answers with a compressed file, which was not asked for")


def _length(response: httpx.Response) -> int | None:
    length = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() else None


def _whole_size(response: httpx.Response, here: int, origin: _Origin) -> int | None:
    """Return the size of the whole file from an answer with its rest. Raises _ChangedError if it is another file's."""
    content = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", response.headers.get("content-range", ""))
    validator = _validator(response)
    if content is None or int(content[1]) != here or (validator and validator != origin.validator):
        raise _ChangedError
    length = _length(response)
    total = int(content[3]) if content[3] != "*" else None if length is None else here + length
    if total is not None and origin.total is not None and total != origin.total:
        raise _ChangedError
    return total


def _check_size(folder: Path, here: int, total: int | None, largest: int) -> None:
    """Raise for a file that is too large for these weights, or for the disk."""
    if total is not None and total > largest:
        raise _WorthlessError(f"has {total:,} bytes; these weights cannot have more than {largest:,}")
    _check_room(folder, 0 if total is None else max(total - here, 0), endless=False)


def _check_room(folder: Path, needed: int, *, endless: bool) -> None:
    disk = shutil.disk_usage(folder)
    if disk.free - min(RESERVE_BYTES, disk.total // 20) < needed:
        if endless:
            raise _WorthlessError(f"names no size, and the disk of {folder} is almost full")
        raise _NoRoomError(f"needs {needed:,} more bytes in {folder}, where {disk.free:,} are free")


def _validator(response: httpx.Response) -> str:
    """Return a value for If-Range: a strong ETag, else a date."""
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("last-modified", ""))


def _origin_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _write_origin(part: Path, origin: _Origin) -> None:
    write_whole(_origin_file(part), [json.dumps(origin).encode()])


def _read_origin(part: Path, url: str) -> _Origin:
    """Return the origin of the part, without a validator if it came from another URL."""
    unknown = _Origin(_hash(url), "", None)
    try:
        origin = _Origin(*json.loads(_origin_file(part).read_text()))
    except (OSError, ValueError, TypeError):
        return unknown
    total = origin.total if isinstance(origin.total, int) else None
    return _Origin(unknown.url_sha256, str(origin.validator), total) if origin[0] == unknown[0] else unknown


def _forget(part: Path) -> None:
    for file in (part, _origin_file(part)):
        file.unlink(missing_ok=True)


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
