"""Images in object storage: below a URL, one by one, and of a further modality.

The location of an image is a list of its key alone, so that another process can read it without listing anything. ETag
and size are its fingerprint. An object that is gone, or whose key cannot be used, is the failure of one image; every
other fault of the storage is none, and ends the run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from fcnseg.errors import ImageError, NoObjectError, SourceError, UnusableKeyError
from fcnseg.io.archive_names import chooses_member, is_hidden_member, member_reference
from fcnseg.io.buckets import Bucket, ObjectInfo
from fcnseg.io.image_kinds import START_BYTES
from fcnseg.io.image_limits import check_bytes
from fcnseg.io.images import READERS, OnSize
from fcnseg.io.left_out import LeftOut
from fcnseg.io.names import RECORDS, stem_of
from fcnseg.io.suffixes import IMAGES, has_suffix
from fcnseg.types import Failure, Pixels, Reference


def read_object(bucket: Bucket, key: str, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
    """Read and decode an object. Raises ImageError if it is gone or no such image."""
    try:
        content = bucket.get(key, lambda size: check_bytes(size, max_pixels))
    except (NoObjectError, UnusableKeyError) as error:
        raise ImageError(str(error)) from error
    return READERS[modality](content, max_pixels, on_size)


class BucketImages:
    """The images below a URL by relative key, in the storage's order; by content where a name tells nothing. Hidden
    keys are passed over, and those below the prefixes to exclude.

    Outputs of runs are left out: the records among them come first. `left_out` counts the objects not taken by suffix
    or prefix, once all was listed.
    """

    def __init__(self, bucket: Bucket, exclude: tuple[str, ...] = ()) -> None:
        self._bucket, self._exclude = bucket, tuple(f"{prefix}/" for prefix in exclude)
        self.left_out: Mapping[str, int] = {}

    def __iter__(self) -> Iterator[Reference | Failure]:
        left_out, outputs = LeftOut(), dict[str, None]()
        try:
            for info in self._bucket.list():
                if info.key.startswith(self._exclude):
                    continue
                prefix, records, _ = info.key.partition(f"/{RECORDS}/")
                if records:
                    outputs[f"{prefix}/"] = None
                elif output := next((name for name in outputs if info.key.startswith(name)), None):
                    left_out.add_in(output)
                elif not info.size and "." not in info.key:  # it marks a folder
                    continue
                elif chooses_member(info.key, partial(self._start, info), left_out):
                    yield member_reference(info.key, "", info.fingerprint, [info.key])
        except UnusableKeyError as error:
            raise SourceError(str(error)) from error
        self.left_out = left_out.by_suffix

    def _start(self, info: ObjectInfo) -> bytes:
        return self._bucket.get_range(info.key, 0, min(info.size, START_BYTES)) if info.size else b""

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Read and decode one object."""
        return read_object(self._bucket, location[0], modality, max_pixels, on_size)

    def fingerprint(self, location: Any) -> str:
        """Return a text that changes when the object does; empty if it is gone."""
        try:
            return self._bucket.head(location[0]).fingerprint
        except (NoObjectError, UnusableKeyError):
            return ""

    def close(self) -> None:
        """Do nothing: nothing stays open between requests."""


class BucketImage(BucketImages):
    """One object, as the only image. Raises SourceError if there is none."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        super().__init__(bucket)
        try:
            self._info = bucket.head(key)
        except (NoObjectError, UnusableKeyError) as error:
            raise SourceError(str(error)) from error

    def __iter__(self) -> Iterator[Reference | Failure]:
        yield Reference(self._info.key, stem_of(self._info.key), self._info.fingerprint, [self._info.key])


class BucketCompanions(BucketImages):
    """Objects of a further modality, found by the stem of the first, whatever their suffix.

    A folder is listed when the first image in it is looked for; the listings of the sixteen used last are kept.
    """

    def __init__(self, bucket: Bucket, modality: str) -> None:
        super().__init__(bucket)
        self.modality = modality
        self._lock = threading.Lock()
        self._index = lru_cache(maxsize=16)(self._by_stem)

    def find(self, reference: Reference) -> list[str]:
        """Return the location of the one object of that stem. Raises ImageError if there is none, or another."""
        with self._lock:
            infos = self._index(reference.stem.rpartition("/")[0]).get(reference.stem, [])
        if len(infos) != 1:
            many = f"{len(infos)} {self.modality} images" if infos else f"no {self.modality} image"
            raise ImageError(f"{many} named {reference.stem} in {self._bucket.url}; there must be one")
        return [infos[0].key]

    def _by_stem(self, folder: str) -> dict[str, list[ObjectInfo]]:
        by_stem: dict[str, list[ObjectInfo]] = {}
        for info in self._bucket.list_folder(folder):
            if has_suffix(info.key, IMAGES) and not is_hidden_member(info.key):
                by_stem.setdefault(stem_of(info.key), []).append(info)
        return by_stem
