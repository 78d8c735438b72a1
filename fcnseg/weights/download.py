"""Download a file over HTTP: resumable, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx

from fcnseg.errors import DownloadError

ATTEMPTS = 4
"""Connections in a row without new bytes before giving up."""

TIMEOUT_SECONDS = 30.0

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes received and, if known, the size of the file."""


class _ChangedError(Exception):
    """The file on the server is no longer the one that was begun."""


def download(url: str, target: Path, by_hand: str, on_bytes: OnBytes = lambda here, total: None) -> None:
    """Download `url` to `target` through `target.part`, which a later call resumes.

    It is resumed only if the server says that its file is unchanged (ETag or Last-Modified, in If-Range). Raises
    DownloadError, whose message ends with `by_hand`: what the user can do instead.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with httpx.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS) as client:
            _fetch_all(client, url, target, on_bytes)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"{url} cannot be fetched ({_reason(error)}); {by_hand}") from error
    except OSError as error:
        raise DownloadError(f"cannot write {target}: {error.strerror or error}; {by_hand}") from error
    except ValueError as error:
        raise DownloadError(f"{url} {error}; {by_hand}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__


def _fetch_all(client: httpx.Client, url: str, target: Path, on_bytes: OnBytes) -> None:
    """Reconnect after a break as long as new bytes arrive."""
    part = target.with_name(f"{target.name}.part")
    failures, best = 0, _size(part)
    while True:
        try:
            _fetch_rest(client, url, part, on_bytes)
            break
        except (_ChangedError, httpx.TransportError) as error:
            if isinstance(error, _ChangedError):
                part.unlink(missing_ok=True)
            failures, best = (0, _size(part)) if _size(part) > best else (failures + 1, best)
            if failures >= ATTEMPTS or isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
                if isinstance(error, _ChangedError):
                    raise ValueError("keeps changing") from error
                raise
    os.replace(part, target)
    _tag_file(part).unlink(missing_ok=True)


def _fetch_rest(client: httpx.Client, url: str, part: Path, on_bytes: OnBytes) -> None:
    """Append the missing bytes to `part`, or start over if the server cannot resume. Checks the length."""
    here, tag = _size(part), _read_tag(part, url)
    headers = {"Accept-Encoding": "identity"}
    if here and tag:
        headers |= {"Range": f"bytes={here}-", "If-Range": tag}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _ChangedError
        response.raise_for_status()
        _check_content(response)
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            here = 0
        elif not response.headers.get("content-range", "").startswith(f"bytes {here}-"):
            raise _ChangedError
        length = response.headers.get("content-length")
        total = here + int(length) if length else None
        _tag_file(part).write_text(json.dumps([url, _validator(response)]))
        with part.open("ab" if here else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                here += len(chunk)
                on_bytes(here, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and here != total:
        raise httpx.RemoteProtocolError(f"{here} of {total} bytes came")


def _check_content(response: httpx.Response) -> None:
    if response.headers.get("content-type", "").startswith(("text/html", "application/xhtml")):
        raise ValueError("answers with a web page instead of weights")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ValueError("answers with a compressed file, which was not asked for")


def _validator(response: httpx.Response) -> str:
    """Return a value for If-Range: a strong ETag, else a date."""
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("last-modified", ""))


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_tag(part: Path, url: str) -> str:
    """Return the validator that came with the part, if it came from this URL."""
    try:
        origin, tag = json.loads(_tag_file(part).read_text())
    except (OSError, ValueError, TypeError):
        return ""
    return str(tag) if origin == url else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
