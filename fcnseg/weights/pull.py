"""Fetching released weights: resumable, checked, atomic; then importing them into the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fcnseg.errors import DownloadError
from fcnseg.recipes import Recipe, WeightSource
from fcnseg.weights.importing import ImportReport, import_weights
from fcnseg.weights.store import store_folder, stored_path

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 5
TIMEOUT_SECONDS = 30.0

OnBytes = Callable[[int, int | None], None]
"""Hears of the bytes that are here and, where known, of those to come."""


class _ChangedError(Exception):
    """The server's file is not the one that a part of is here."""


def pull(recipe: Recipe, url: str | None = None, on_bytes: OnBytes = lambda here, total: None) -> ImportReport:
    """Download the recipe's first source that has an address (or `url`), check it, and import it into the store.

    A dropped connection is taken up where it broke, now or the next time. Raises DownloadError, whose message says
    where to put the file by hand, and whatever `import_weights` raises.
    """
    source = next((s for s in recipe.weights if s.url), None)
    if source is None and url is None:
        raise DownloadError(
            f"no weights of {recipe.name} were released; "
            f"bring your own: `fcnseg weights import FILE --model {recipe.name}`"
        )
    source = source or WeightSource(file=Path(url or "").name or "weights")
    target = store_folder() / "downloads" / source.file
    by_hand = f"put {source.file} at {target} by hand and run `fcnseg weights pull {recipe.name}` again"
    if not target.is_file():
        download(url or source.url or "", target, by_hand, on_bytes)
    check_hash(target, source, by_hand)
    report = import_weights(target, recipe, stored_path(recipe.name))
    target.unlink()
    return report


def download(url: str, target: Path, by_hand: str, on_bytes: OnBytes = lambda here, total: None) -> None:
    """Fetch `url` to `target`, through `target.part` which later calls go on with. Raises DownloadError."""
    import httpx

    part = target.with_name(target.name + ".part")
    error: Exception | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with httpx.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS) as client:
            for _ in range(ATTEMPTS):
                try:
                    _fetch_rest(client, url, part, on_bytes)
                    os.replace(part, target)
                    return
                except _ChangedError:
                    part.unlink(missing_ok=True)
                except httpx.HTTPStatusError as refused:
                    status = refused.response.status_code
                    raise DownloadError(
                        f"{url} answers {status} {refused.response.reason_phrase}; {by_hand}"
                    ) from refused
                except httpx.UnsupportedProtocol:
                    raise
                except httpx.TransportError as broken:
                    error = broken
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as wrong:
        raise DownloadError(f"{url!r} is no address; {by_hand}") from wrong
    except OSError as failed:
        raise DownloadError(f"cannot write {part}: {failed.strerror}; {by_hand}") from failed
    raise DownloadError(f"{url} cannot be fetched ({error or 'it keeps changing'}); {by_hand}") from error


def _fetch_rest(client: httpx.Client, url: str, part: Path, on_bytes: OnBytes) -> None:
    """Append what is missing to `part`; begin anew where the server offers no ranges. Checks the length."""
    import httpx

    tag_file = part.with_name(part.name + ".tag")
    here = part.stat().st_size if part.is_file() else 0
    tag = tag_file.read_text() if here and tag_file.is_file() else ""
    headers = {"Accept-Encoding": "identity"}
    if here and tag:
        headers |= {"Range": f"bytes={here}-", "If-Range": tag}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _ChangedError
        response.raise_for_status()
        if response.headers.get("content-type", "").startswith("text/html"):
            raise DownloadError(f"{url} answers with a web page instead of weights; look at it in a browser")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            here = 0
        length = response.headers.get("content-length")
        total = here + int(length) if length else None
        tag_file.write_text(response.headers.get("etag") or response.headers.get("last-modified") or "")
        with part.open("ab" if here else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                here += len(chunk)
                on_bytes(here, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and here != total:
        raise httpx.RemoteProtocolError(f"{here} of {total} bytes came")
    tag_file.unlink(missing_ok=True)


def check_hash(path: Path, source: WeightSource, by_hand: str) -> None:
    """Compare a file with the hash its recipe gives, if any; a wrong file is deleted. Raises DownloadError."""
    for kind, expected in (("sha256", source.sha256), ("md5", source.md5)):
        if expected:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
            if found != expected:
                path.unlink()
                raise DownloadError(f"{path.name} has the wrong {kind} ({found}, expected {expected}); {by_hand}")
