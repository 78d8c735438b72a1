"""Images in many tar objects, such as the shards of a WebDataset: `s3://bucket/shards/*.tar`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from fcnseg.errors import ImageError, NoObjectError
from fcnseg.io.archive_names import chooses_member, member_reference
from fcnseg.io.buckets import Bucket, ObjectInfo
from fcnseg.io.image_kinds import START_BYTES
from fcnseg.io.image_limits import check_bytes
from fcnseg.io.images import READERS, OnSize
from fcnseg.io.left_out import LeftOut
from fcnseg.io.remote_file import RemoteFile
from fcnseg.io.tar_headers import TarMembers
from fcnseg.io.waiting import map_ahead
from fcnseg.types import Failure, Pixels, Reference

LISTED_AT_ONCE = 8
"""The tars whose headers are read at once: reading them is waiting for the storage."""

Listed = tuple[list[Reference | Failure], LeftOut]


class BucketTars:
    """The images in the tar objects right below a URL whose names match a pattern, tar by tar, in their order.

    Keys are `<name of the tar without .tar>/<member>`; locations the tar's key, offset and size, so that another
    process can read a member by one request. A member's fingerprint is that of its tar with its offset: all members of
    a tar that was replaced are done again. `left_out` counts other members by suffix.
    """

    def __init__(self, bucket: Bucket, pattern: str) -> None:
        self._bucket, self._pattern = bucket, pattern
        self.left_out: Mapping[str, int] = {}

    def __iter__(self) -> Iterator[Reference | Failure]:
        infos = [info for info in self._bucket.list_folder() if fnmatchcase(info.key, self._pattern)]
        left_out = LeftOut()
        for listed, others in map_ahead(self._members, sorted(infos), LISTED_AT_ONCE):
            yield from listed
            left_out.add_all(others)
        self.left_out = left_out.by_suffix

    def _members(self, info: ObjectInfo) -> Listed:
        """Return the images of one tar, a failure more if it is damaged, and the others."""
        content = RemoteFile(self._bucket, info.key, info.size)
        folder = info.key.removesuffix(".tar")
        members, listed, left_out = TarMembers(content), list[Reference | Failure](), LeftOut()
        for member in members:
            size = min(member.size, START_BYTES)
            start = partial(content.read_at, member.offset, size)
            if not member.is_folder and chooses_member(member.name, start, left_out):
                location = [info.key, member.offset, member.size]
                fingerprint = f"{info.fingerprint}-{member.offset}"
                listed.append(member_reference(f"{folder}/{member.name}", member.fault, fingerprint, location))
        if members.fault:
            listed.append(Failure(info.key, "list", members.fault))
        return listed, left_out

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Read and decode one member."""
        key, offset, size = location
        check_bytes(size, max_pixels)
        try:
            content = self._bucket.get_range(key, offset, size) if size else b""
        except NoObjectError as error:
            raise ImageError(str(error)) from error
        return READERS[modality](content, max_pixels, on_size)

    def close(self) -> None:
        """Do nothing: nothing stays open between requests."""
