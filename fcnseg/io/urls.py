"""URLs of object storage. They never pass through `Path`, which makes one slash of two."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from fcnseg.errors import SettingsError

SCHEMES = {
    "s3": "S3",
    "s3a": "S3",
    "gs": "Google Cloud Storage",
    "az": "Azure",
    "azure": "Azure",
    "abfs": "Azure",
    "abfss": "Azure",
    "file": "local files",
}
"""The storages that URLs may be of, by scheme."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/(?!/)")


class ParsedUrl(NamedTuple):
    """A URL in parts: `s3`, `bucket`, `a/b`. The key is taken as it is written; percent signs mean nothing in it, but
    in that of `file`. It has no slash at either end."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file:///{quote(os.fsencode(self.key))}"
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")


def is_url(text: str | os.PathLike[str]) -> bool:
    """Tell whether a source or an output is a URL (`scheme://`), known or not, and not a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def parse_url(text: str | os.PathLike[str]) -> ParsedUrl:
    """Return the parts of a URL. Raises SettingsError for schemes that are not in SCHEMES, and without a bucket."""
    match = _URL.match(os.fspath(text))
    scheme = match[1].lower() if match else ""
    if not match or scheme not in SCHEMES:
        raise SettingsError(f"{text} is of no storage that is known; give a path, or s3://, gs://, az:// or file://")
    bucket, _, key = os.fspath(text)[match.end() :].partition("/")
    if scheme == "file":
        if bucket not in ("", "localhost"):
            raise SettingsError(f"{text} names the host {bucket}; file URLs have three slashes: file:///{bucket}/{key}")
        return ParsedUrl("file", "", os.path.normpath(f"/{unquote(key, errors='surrogateescape')}").strip("/"))
    if not bucket:
        raise SettingsError(f"{text} names no bucket; give {scheme}://BUCKET/KEY")
    return ParsedUrl(scheme, bucket, "/".join(part for part in key.split("/") if part))


def plugin_scheme(place: str) -> str:
    """Return the scheme of a URL that is of no storage: a plug-in's, perhaps. Empty for everything else."""
    match = _URL.match(place)
    return match[1].lower() if match and match[1].lower() not in SCHEMES else ""


def split_url(text: str) -> tuple[str, str]:
    """Return the URL of what an object lies in, and the object's name in that."""
    url = parse_url(text)
    parent, _, name = url.key.rpartition("/")
    return str(url._replace(key=parent)), name


def is_tar_pattern(place: str) -> bool:
    """Tell whether a place is a URL of many tars, `s3://bucket/shards/*.tar`."""
    name = place.rpartition("/")[2]
    return is_url(place) and "*" in name and name.endswith(".tar")


def local_path(place: str) -> str:
    """Return the path of a `file` URL; any other place as it is, and what no path can be."""
    if is_tar_pattern(place):
        return place
    return f"/{parse_url(place).key}" if is_url(place) and place.lower().startswith("file:") else place


def absolute_place(place: str) -> str:
    """Return the absolute path of a place, or its URL in one form; a plug-in's as it is."""
    if plugin_scheme(place):
        return place
    return str(parse_url(place)) if is_url(place) else os.path.abspath(place)


def join_url(url: str, name: str) -> str:
    """Return the URL of a name below another."""
    return f"{url.rstrip('/')}/{name}"


def refuse_url(path: os.PathLike[str], name: str) -> None:
    """Raise SettingsError for a path that was given as a URL, where `name` is one of this machine alone."""
    match = _ONE_SLASH.match(os.fspath(path))
    if match and not os.path.lexists(f"{match[1]}:"):
        raise SettingsError(f"{name} is a place on this machine, and {path} was a URL; give a path")


def refuse_lost_slash(place: str | os.PathLike[str]) -> None:
    """Raise SettingsError for a source that was a URL before it became a path: `Path("s3://b/x")` is `s3:/b/x`."""
    text = os.fspath(place)
    match = _ONE_SLASH.match(text)
    if match and match[1].lower() in SCHEMES and not os.path.lexists(f"{match[1]}:"):
        url = f"{match[1]}:/{text[match.end() - 1 :]}"
        raise SettingsError(f"{text} was a URL before it became a path, which has one slash; give {url} as text")
