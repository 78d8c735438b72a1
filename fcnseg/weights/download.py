"""Fetching one file over HTTP: resumable, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fcnseg.errors import DownloadError

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 4
"""Connections in a row that bring nothing new before giving up."""

TIMEOUT_SECONDS = 30.0

OnBytes = Callable[[int, int | None], None]
"""Hears of the bytes that are here and, where known, of those to come."""


class _ChangedError(Exception):
    """The server's file is not the one that a part of is here."""


def download(url: str, target: Path, by_hand: str, on_bytes: OnBytes = lambda here, total: None) -> None:
    """Fetch `url` to `target`, through `target.part` which later calls go on with.

    A part is continued only if the server says that its file is unchanged (ETag or Last-Modified, in If-Range).
    Raises DownloadError; its message ends with `by_hand`, what the user can do instead.
    """
    import httpx

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
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__


def _fetch_all(client: httpx.Client, url: str, target: Path, on_bytes: OnBytes) -> None:
    """Connect again after a break for as long as new bytes come."""
    import httpx

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
    """Append what is missing to `part`, or begin anew where the server does not continue. Checks the length."""
    import httpx

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
    """What If-Range may name: a strong ETag or a date."""
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("last-modified", ""))


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_tag(part: Path, url: str) -> str:
    """The validator that came with the part, if it came from this address."""
    try:
        origin, tag = json.loads(_tag_file(part).read_text())
    except (OSError, ValueError, TypeError):
        return ""
    return str(tag) if origin == url else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
