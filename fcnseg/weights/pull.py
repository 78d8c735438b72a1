"""Download a model's released weights, check them, and import them into the store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote, urlsplit

from fcnseg.errors import DownloadError, WeightsError
from fcnseg.io.hashing import file_sha256
from fcnseg.recipes import Recipe, WeightSource
from fcnseg.weights.download import OnBytes, download
from fcnseg.weights.importing import ImportReport, import_weights
from fcnseg.weights.reading import read_weights
from fcnseg.weights.store import store_folder, stored_path


def pull(recipe: Recipe, url: str | None = None, on_bytes: OnBytes = lambda here, total: None) -> ImportReport:
    """Download the recipe's first source that has an address (or `url`), check it, and import it into the store.

    A dropped connection is resumed, now or by the next call. A file that is already in the downloads folder is used.
    Raises DownloadError, whose message says where to put the file by hand, and whatever `import_weights` raises.
    """
    source = next((s for s in recipe.weights if s.url), None)
    if source is None and url is None:
        todo = f"bring your own: `fcnseg weights import FILE --model {recipe.name}`"
        raise DownloadError(f"no weights of {recipe.name} were released; {todo}")
    source = source or WeightSource(file=Path(urlsplit(url or "").path).name or "weights")
    target = store_folder() / "downloads" / quote(source.file, safe=" ")
    command = f"fcnseg weights import {target} --model {recipe.name}"
    by_hand = f"put {source.file} at {target} and run `{command}`"
    if not target.is_file():
        size = source.size_mib * 2**20 if source.size_mib and not url else None  # where the server names none
        download(url or source.url or "", target, by_hand, lambda here, total: on_bytes(here, total or size))
    _check(target, source, by_hand)
    report = import_weights(target, recipe, stored_path(recipe.name))
    target.unlink()
    return report


def _check(path: Path, source: WeightSource, by_hand: str) -> None:
    """Compare a file with the hashes of its recipe, if any, and read it. Raises DownloadError for a wrong file.

    The file is deleted then, so that the next pull downloads it again.
    """
    for kind, digest_of, expected in (("sha256", file_sha256, source.sha256), ("md5", _md5, source.md5)):
        if expected and (digest := digest_of(path)) != expected:
            path.unlink()
            raise DownloadError(f"{source.file} has the {kind} {digest}, expected {expected}; {by_hand}")
    try:
        read_weights(path)
    except WeightsError as error:
        path.unlink()
        raise DownloadError(f"what came as {source.file} holds no weights ({error}); {by_hand}") from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
