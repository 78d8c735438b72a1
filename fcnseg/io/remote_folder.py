"""A storage of outputs below a URL, and the one function that opens a storage of either kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from fcnseg.errors import ImageError, UnusableKeyError
from fcnseg.io.atomic import new_digest
from fcnseg.io.storage import LocalFolder
from fcnseg.io.urls import is_url
from fcnseg.types import Output, Storage


class RemoteFolder:
    """The objects below a URL. A file is an object, put whole and replacing one of its name."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        from fcnseg.io.buckets import open_store  # obstore, which need not be installed

        self._bucket = open_store(url, options)
        self.root = self._bucket.url

    def place(self, name: str, content: Iterable[bytes | memoryview]) -> Output:
        """Put a file whole, or not at all, and durably. Raises StorageError; ImageError for a name that is no key."""
        whole = b"".join(content)
        try:
            self._bucket.put(name, whole)
        except UnusableKeyError as error:
            raise ImageError(str(error), "write") from error
        digest = new_digest()
        digest.update(whole)
        return Output(self._bucket.url_of(name), len(whole), digest.hexdigest())

    def flush(self) -> None:
        """Do nothing: what is placed is durable."""


def open_folder(root: str | Path, options: Mapping[str, str] | None = None) -> Storage:
    """Return the storage of a URL, or of a folder on this machine."""
    return RemoteFolder(root, options) if isinstance(root, str) and is_url(root) else LocalFolder(root)
