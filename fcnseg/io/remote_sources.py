"""Collections of images behind URLs: prefixes, single objects, lists and archives, told by the URL's suffix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fcnseg.errors import NoObjectError, SourceError
from fcnseg.io.archives import TarImages, open_archive
from fcnseg.io.bucket_images import BucketCompanions, BucketImage, BucketImages
from fcnseg.io.bucket_tars import BucketTars
from fcnseg.io.buckets import open_store
from fcnseg.io.names import is_hdf5_name
from fcnseg.io.remote_file import RemoteFile
from fcnseg.io.suffixes import ARCHIVES, IMAGES, LIST, has_suffix
from fcnseg.io.url_list import UrlList
from fcnseg.io.urls import is_tar_pattern, is_url, parse_url, split_url
from fcnseg.io.zip_archive import ZipImages

RemoteImages = BucketImages | BucketTars | UrlList | ZipImages | TarImages


def open_remote_images(url: str, options: Mapping[str, str], exclude: Iterable[object]) -> RemoteImages:
    """Open the images behind a URL; those below URLs to `exclude` are left out. Raises SourceError for what cannot be
    read, and StorageError."""
    _refuse_hdf5(url)
    if is_tar_pattern(url):
        parent, pattern = split_url(url)
        return BucketTars(open_store(parent, options), pattern)
    if url.endswith("/") or not has_suffix(url, (*IMAGES, *ARCHIVES, LIST)):
        return BucketImages(open_store(url, options), tuple(_keys_below(url, exclude)))
    parent, name = split_url(url)
    bucket = open_store(parent, options)
    if has_suffix(url, IMAGES):
        return BucketImage(bucket, name)
    try:
        content = RemoteFile(bucket, name)
    except NoObjectError as error:
        raise SourceError(str(error)) from error
    if has_suffix(url, ARCHIVES):
        return open_archive(url, content)
    return UrlList(f"the list {url}", content, parent, options)


def open_remote_companions(url: str, modality: str, options: Mapping[str, str]) -> BucketCompanions:
    """Open the images of a further modality below a URL."""
    _refuse_hdf5(url)
    return BucketCompanions(open_store(url, options), modality)


def _refuse_hdf5(url: str) -> None:
    if is_hdf5_name(url):
        raise SourceError(f"{url} cannot be read: HDF5 files are read from disks alone; copy it first")


def _keys_below(url: str, others: Iterable[object]) -> Iterable[str]:
    """Return the keys, relative to a URL, of other URLs below it."""
    root = f"{parse_url(url)}/"
    for other in others:
        if isinstance(other, str) and is_url(other) and (below := str(parse_url(other))).startswith(root):
            yield below.removeprefix(root)
