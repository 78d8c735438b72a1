"""Opening sources: folders, single files, lists, archives, HDF5 files, URLs and those of plug-ins, with further
modalities."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.archives import open_archive
from fcnseg.io.folders import CompanionFolder, ImageFiles, ImageFolder, file_reference
from fcnseg.io.image_list import ImageList
from fcnseg.io.image_source import CompanionCollection, ImageCollection, ImageSource
from fcnseg.io.images import MAX_PIXELS
from fcnseg.io.names import is_hdf5_name
from fcnseg.io.suffixes import ARCHIVES, LIST, VIDEOS, has_suffix
from fcnseg.io.urls import is_url, local_path, plugin_scheme, refuse_lost_slash
from fcnseg.io.videos import VideoImages
from fcnseg.types import Reference


class _SingleFile(ImageFiles):
    """One image file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Reference]:
        yield file_reference(Path(self.path).name, self.path)


def open_source(
    source: str | Path,
    modalities: tuple[str, ...] = ("color",),
    companions: Mapping[str, str | Path] | None = None,
    *,
    pattern: str | None = None,
    exclude: tuple[str | Path, ...] = (),
    max_pixels: int = MAX_PIXELS,
    layout: str = "auto",
    stdin: BinaryIO | None = None,
    storage_options: Mapping[str, str] | None = None,
    every: int | None = None,
) -> ImageSource:
    """Open the images of a folder (recursive), an image file, a `.txt` list of paths or URLs or one on standard input
    (`-`), a zip or tar archive, a video, an HDF5 or MATLAB v7.3 file (`data.h5::/images`), or a URL of any but the last
    two.

    `NAME://PLACE` is a source that a plug-in of that name opens: see `fcnseg.plugins`. It gives all modalities itself.

    `modalities` are what the model takes: the first comes from `source`, each further one from its folder, URL or HDF5
    file in `companions`. `pattern` keeps the keys it matches, `exclude` names folders and URLs that are not entered,
    `layout` (auto, NHWC, NCHW) the axes of HDF5 datasets, `every` N every Nth frame of a video; `storage_options` are
    those of `open_store`. Raises SourceError for a source that cannot be read, and when it is listed and holds no
    images; SettingsError for companions, a layout or `every` that do not fit; StorageError.
    """
    places = {name: local_path(os.fspath(path)) for name, path in (companions or {}).items()}
    place, options = local_path(os.fspath(source)), storage_options or {}
    main, *others = modalities
    for name in others if not plugin_scheme(place) else ():
        if name not in places:
            raise SettingsError(f"this model also takes {name} images; give their folder with --{name} DIR")
    for name in places:
        if name not in others:
            raise SettingsError(f"this model takes {' and '.join(modalities)} images only; leave out --{name}")
    if layout != "auto" and not any(is_hdf5_name(os.fspath(path)) for path in (place, *places.values())):
        raise SettingsError("--layout is for the axes of HDF5 datasets; leave it out")
    if every is not None and not is_video(place):
        raise SettingsError(f"--every is for the frames of a video, and {source} is none; leave it out")
    if is_video(place) and modalities != ("color",):
        raise SettingsError(f"this model takes {' and '.join(modalities)} images, and a video has color alone")
    if scheme := plugin_scheme(place):
        from fcnseg.io.plugin_source import open_plugin_source  # other sources need no plug-in

        if places:
            raise SettingsError(f"a plug-in gives all modalities of its images; leave out --{next(iter(places))}")
        return open_plugin_source(scheme, place, modalities, pattern, max_pixels)
    opened = {name: _open_companions(path, name, layout, options) for name, path in places.items()}
    if is_url(place):
        from fcnseg.io.remote_sources import open_remote_images  # local images need no client of storages

        images: ImageCollection = open_remote_images(place, options, exclude)
    else:
        images = (
            VideoImages(place, 1 if every is None else every)
            if is_video(place)
            else _open_images(place, main, exclude, layout, stdin, options)
        )
    return ImageSource(getattr(images, "name", os.fspath(source)), images, main, opened, pattern, max_pixels)


def is_video(place: str) -> bool:
    """Tell whether a source is a video on this machine, by its name."""
    return has_suffix(place, VIDEOS) and not is_url(place) and not Path(place).is_dir() and os.path.lexists(place)


def _open_images(
    path: str,
    modality: str,
    exclude: tuple[str | Path, ...],
    layout: str,
    stdin: BinaryIO | None,
    options: Mapping[str, str],
) -> ImageCollection:
    if path == "-":
        return _open_list(path, stdin, options)
    if Path(path).is_dir():
        return ImageFolder(path, tuple(Path(place) for place in exclude if not is_url(place)))
    if is_hdf5_name(path):
        from fcnseg.io.hdf5_images import Hdf5Images  # h5py takes a tenth of a second

        return Hdf5Images(path, modality, layout)
    if not os.path.lexists(path):
        refuse_lost_slash(path)
        raise SourceError(f"{path} does not exist; give a folder, an image, a text file of paths, an archive or HDF5")
    if has_suffix(path, ARCHIVES):
        return open_archive(path)
    return _open_list(path, None, options) if has_suffix(path, LIST) else _SingleFile(path)


def _open_list(path: str, stdin: BinaryIO | None, options: Mapping[str, str]) -> ImageCollection:
    images = ImageList(path, stdin)
    if not images.names_urls():
        return images
    from fcnseg.io.url_list import UrlList  # paths need no client of storages

    return UrlList(images.name, images.text, "", options)


def _open_companions(path: str, modality: str, layout: str, options: Mapping[str, str]) -> CompanionCollection:
    if is_url(path):
        from fcnseg.io.remote_sources import open_remote_companions  # local images need no client of storages

        return open_remote_companions(path, modality, options)
    if not Path(path).is_dir() and is_hdf5_name(path):
        from fcnseg.io.hdf5_images import Hdf5Images  # h5py takes a tenth of a second

        return Hdf5Images(path, modality, layout)
    return CompanionFolder(path, modality)
