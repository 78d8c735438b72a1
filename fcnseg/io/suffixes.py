"""The one table of file-name suffixes. All are in lower case; names match in any case."""

from __future__ import annotations

import os

IMAGES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    *(".avif", ".heic", ".heif", ".hif"),
)
"""Image files: photographs, depth and HHA images, overlays."""

VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".3gp", ".ogv"),
)
"""Videos, of which every frame is an image."""

VIDEO_OUTPUT = ".mp4"
"""Videos of overlays."""

HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
"""HDF5 files, as inputs and as outputs."""

MATLAB = ".mat"
"""MATLAB files: HDF5 of images (v7.3), or one label map. Only read."""

NUMPY = ".npy"

NUMPY_ARCHIVE = ".npz"
"""The most probable classes and their probabilities, as `fcnseg run --top-k` writes them."""

IMAGE_HDF5 = (*HDF5, MATLAB)
"""HDF5 files of images."""

LABEL_MAPS = (*IMAGES, NUMPY, NUMPY_ARCHIVE, MATLAB)
"""Files of one label map each. Lossy images are among them, so that reading one can say why it is refused."""

ZIP = ".zip"

GZIP_TAR, BZIP2_TAR, XZ_TAR = (".tar.gz", ".tgz"), (".tar.bz2", ".tbz2"), (".tar.xz", ".txz")

TAR = ".tar"

ARCHIVES = (ZIP, TAR, *GZIP_TAR, *BZIP2_TAR, *XZ_TAR)

LIST = ".txt"
"""Texts of one path, or one name, a line."""


def has_suffix(name: str | os.PathLike[str], suffixes: str | tuple[str, ...]) -> bool:
    """Tell whether a file's name ends with one of these suffixes."""
    return os.fspath(name).lower().endswith(suffixes)
