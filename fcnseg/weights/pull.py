"""Download a model's released weights, check them, and import them into the store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from fcnseg.errors import DownloadError, OutputError, WeightsError
from fcnseg.io.hashing import file_sha256
from fcnseg.models import network_spec
from fcnseg.models.layers import deconvolution_names, weight_shapes
from fcnseg.recipes import Recipe, WeightSource, name_from
from fcnseg.weights.addresses import masked, split_address
from fcnseg.weights.download import OnBytes, download
from fcnseg.weights.importing import ImportReport, import_weights
from fcnseg.weights.pins import pin_file, pinned_sha256, write_pin
from fcnseg.weights.reading import read_weights
from fcnseg.weights.store import store_folder, stored_path

MIB = 2**20


def pull(
    recipe: Recipe,
    url: str | None = None,
    on_bytes: OnBytes = lambda here, total: None,
    on_note: Callable[[str], None] = lambda line: None,
) -> ImportReport:
    """Download the recipe's first source that has an address (or `url`), check it, and import it into the store.

    A dropped connection is resumed, now or by the next call. A file that is already in the downloads folder is used.
    Where the recipe has no SHA-256, that of the first file is pinned, and later files must have it. Raises
    DownloadError, whose message says where to put the file by hand, and whatever `import_weights` raises.
    """
    source = _source(recipe, url)
    address = url or source.url or ""
    target = store_folder() / "downloads" / quote(source.file, safe=" ")
    by_hand = f"put {source.file} at {target} and run `fcnseg weights import {target} --model {recipe.name}`"
    with _alone(source.file):
        pinned = None if source.sha256 else pinned_sha256(recipe.name, source.file)
        if not target.is_file():
            if not (source.sha256 or source.md5 or pinned or _hash_in_name(source.file)):
                on_note(_unproven(address))
            size = source.size_mib * MIB if source.size_mib and not url else None  # where the server names none
            show = lambda here, total: on_bytes(here, total or size)  # noqa: E731
            download(address, target, by_hand, show, _largest(recipe, source, url))
        if pinned:
            _check_pin(target, pinned, pin_file(recipe.name, source.file))
        _check(target, source, by_hand)
        report = import_weights(target, recipe, stored_path(recipe.name))
        if not source.sha256:
            on_note(f"pinned: later pulls must bring this file ({write_pin(recipe.name, source.file, report.sha256)})")
        target.unlink()
    return report


def _source(recipe: Recipe, url: str | None) -> WeightSource:
    """Return what to pull. Raises DownloadError for a model without released weights."""
    source = next((s for s in recipe.weights if s.url), None)
    if source is not None:
        return source
    if url is None:
        todo = f"bring your own: `fcnseg weights import FILE --model {recipe.name}`"
        raise DownloadError(f"no weights of {recipe.name} were released; {todo}")
    parts = split_address(url)
    return WeightSource(file=name_from(Path(parts.path).name if parts else ""))


def _unproven(address: str) -> str:
    """Return a line about a file whose hash is not known."""
    line = f"the hash of {masked(address)} was not published"
    if not address.lower().startswith("https:"):
        line += ", and http is not encrypted: whoever is on the way can replace the file"
    return line


def _largest(recipe: Recipe, source: WeightSource, url: str | None) -> int:
    """Return a size, in bytes, that no file of these weights exceeds.

    That of the recipe is rounded, and computed from the layers; elsewhere the numbers may be float64 or come with the
    state of an optimizer.
    """
    if source.size_mib and not url:
        return source.size_mib * MIB * 11 // 10 + 4 * MIB
    spec = network_spec(recipe)
    numbers = sum(prod(shape) for shape in weight_shapes(spec, frozenset(deconvolution_names(spec))).values())
    return 4 * 4 * numbers + 16 * MIB


@contextmanager
def _alone(file: str) -> Iterator[None]:
    """Hold the lock of the one process that pulls this file. Raises DownloadError while another does."""
    path = store_folder() / "locks" / f"{quote(file, safe=' ')}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        todo = f"wait until it ends (its lock is {path})"
        raise DownloadError(f"another process is pulling {file}; {todo}") from error
    except OSError as error:
        todo = "set FCNSEG_HOME to a folder of yours"
        raise OutputError(f"cannot write {path}: {error.strerror or error}; {todo}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held
            path.unlink()
        lock.release()


def _check_pin(path: Path, pinned: str, pin: Path) -> None:
    """Raise DownloadError for a file that is not the one of an earlier pull, and delete it."""
    if (digest := file_sha256(path)) != pinned:
        path.unlink()
        raise DownloadError(
            f"{path.name} has the SHA-256 {digest}, an earlier pull brought {pinned}; delete {pin} only if the new "
            "file is to be trusted"
        )


def _check(path: Path, source: WeightSource, by_hand: str) -> None:
    """Compare a file with the hashes of its recipe, if any, and read it. Raises DownloadError for a wrong file.

    The file is deleted then, so that the next pull downloads it again.
    """
    for kind, digest_of, expected in (("sha256", file_sha256, source.sha256), ("md5", _md5, source.md5)):
        if expected and (digest := digest_of(path)) != expected.lower():
            path.unlink()
            raise DownloadError(f"{source.file} has the {kind} {digest}, expected {expected}; {by_hand}")
    if (start := _hash_in_name(source.file)) and not (digest := file_sha256(path)).startswith(start):
        path.unlink()
        raise DownloadError(f"{source.file} has the sha256 {digest}, expected {start}...; {by_hand}")
    try:
        read_weights(path)
    except WeightsError as error:
        path.unlink()
        raise DownloadError(f"what came as {source.file} holds no weights ({error}); {by_hand}") from error


def _hash_in_name(file: str) -> str:
    """Return the digits of the SHA-256 that PyTorch's files end their names with; "" if there are none."""
    match = re.search(r"-([0-9a-f]{8,64})\.pth$", file)
    return match[1] if match else ""


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
