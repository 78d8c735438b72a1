"""Label maps in object storage: objects of their own, and members of tar objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from fcnseg.errors import LabelsError, NoObjectError, UnusableKeyError
from fcnseg.io.archive_names import is_hidden_member
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.remote_file import RemoteFile
from fcnseg.io.suffixes import LABEL_MAPS, TAR, has_suffix
from fcnseg.io.tar_folder import generation_of
from fcnseg.io.tar_headers import TarMembers
from fcnseg.io.urls import is_url, split_url


@dataclass(frozen=True)
class RemoteLocation(MapLocation):
    """The location of a map in a bucket: an object, or (offset, bytes) of a member of one."""

    bucket: Bucket = field(default=Bucket(""), compare=False)
    key: str = ""
    member: tuple[int, int] | None = None
    name: str = ""

    def content(self, check_size: Callable[[int], None]) -> bytes:
        """Read the bytes of the map. Raises LabelsError, without naming it, if it is gone; so may `check_size`."""
        try:
            if self.member is None:
                return self.bucket.get(self.key, check_size)
            check_size(self.member[1])
            return self.bucket.get_range(self.key, *self.member) if self.member[1] else b""
        except (NoObjectError, UnusableKeyError) as error:
            raise LabelsError("is not there any more") from error


def locate_in_bucket(place: str, options: Mapping[str, str]) -> dict[str, RemoteLocation]:
    """Locate the label maps below a URL (or in a local folder) by key: those in tar objects, if there are no others.

    Of tars that `fcnseg run` wrote, later generations replace maps of earlier ones.

    A URL of one map, or of one tar, is that one.
    """
    if is_url(place) and not place.endswith("/") and has_suffix(place, (*LABEL_MAPS, TAR)):
        parent, name = split_url(place)
        bucket, keys = open_store(parent, options), [name]
    else:
        bucket = open_store(place, options)
        keys = [info.key for info in bucket.list() if has_suffix(info.key, (*LABEL_MAPS, TAR))]
    keys = [key for key in keys if not is_hidden_member(key)]
    located = {key: _location(bucket, key, key) for key in keys if not has_suffix(key, TAR)}
    for key in () if located else sorted(keys):
        for location in _members(bucket, key):
            before = located.get(location.name)
            if before and (generation_of(before.key) or 0) >= (generation_of(key) or 0):
                raise LabelsError(f"{located[location.name]} and {location} are maps of one name; keep one of them")
            located[location.name] = location
    return located


def _members(bucket: Bucket, key: str) -> Iterator[RemoteLocation]:
    for member in TarMembers(RemoteFile(bucket, key)):
        if has_suffix(member.name, LABEL_MAPS) and not (member.fault or is_hidden_member(member.name)):
            yield _location(bucket, key, member.name, (member.offset, member.size))


def _location(bucket: Bucket, key: str, name: str, member: tuple[int, int] | None = None) -> RemoteLocation:
    inside = "" if member is None else f"/{name}"
    return RemoteLocation(bucket.url_of(key) + inside, bucket=bucket, key=key, member=member, name=name)
