"""The kind of a file by its first bytes, whatever it is called: for the reasons why it is no image that is read."""

from __future__ import annotations

import re
from importlib.util import find_spec

from PIL import Image, features

from fcnseg.errors import OPTIONAL, ImageError, installs

START_BYTES = 512
"""How much of a file its kind is told by."""

HEIC, AVIF, JPEG_2000 = "HEIC", "AVIF", "JPEG 2000"

KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), kind)
    for pattern, kind in (
        (rb"....ftyp.{4,64}avi[fs]", AVIF),
        (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", HEIC),
        (rb"....ftypcrx ", "a raw file of a camera (CR3)"),
        (rb"....(ftyp|moov|mdat|wide|free)", "a video"),
        (rb"\0\0\0\x0cjp  |\xff\x4f\xff\x51", JPEG_2000),
        (rb"\0\0\0\x0cjxl |\xff\x0a", "JPEG XL"),
        (rb"ii\xbc", "JPEG XR"),
        (rb"(fujifilmccd-raw|iiu\0|iirs|iiro)", "a raw file of a camera"),
        (rb"8bps", "a Photoshop document"),
        (rb"gimp xcf", "a GIMP document"),
        (rb"v/1\x01", "OpenEXR"),
        (rb"#\?(radiance|rgbe)", "Radiance HDR"),
        (rb"simple  =", "FITS"),
        (rb".{128}dicm", "DICOM"),
        (rb"\x89hdf", "HDF5"),
        (rb"\x93numpy", "a NumPy array"),
        (rb"matlab 5\.0", "a MATLAB file"),
        (rb"dds ", "DDS"),
        (rb"\0\0[\x01\x02]\0[\x01-\x40]\0", "an icon"),
        (rb"qoif", "QOI"),
        (rb"at&tform", "DjVu"),
        (rb"\0\x05\x16[\0\x07]", "the shadow of a file that macOS leaves"),
        (rb"riff....(avi |wave)", "a video or sound"),
        (rb"\x1aE\xdf\xa3", "a video"),
        (rb"pk\x03\x04", "a zip archive"),
        (rb"\x1f\x8b", "packed with gzip"),
        (rb"7z\xbc\xaf|rar!|bzh|\xfd7zxz", "a packed archive"),
        (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
        (rb"(\xef\xbb\xbf)?\s*<svg", "SVG"),
        (rb"(\xef\xbb\xbf)?\s*<!doctype html|(\xef\xbb\xbf)?\s*<html", "HTML"),
        (rb"(\xef\xbb\xbf)?\s*<\?xml.*<svg", "SVG"),
        (rb"(\xef\xbb\xbf)?\s*<\?xml", "XML"),
        (rb"\s*%pdf", "PDF"),
        (rb"%!ps|\xc5\xd0\xd3\xc6", "PostScript"),
        (rb"\0{64}", "zeros"),
    )
)
"""First bytes, in any case, and what has them: image formats from the Library of Congress's descriptions, others from
their own specifications."""


def described(start: bytes) -> str:
    """Return in words what a file that starts like this is; empty if that is not known."""
    return next((kind for pattern, kind in KINDS if pattern.match(start)), "")


def further_formats(start: bytes) -> tuple[str, ...]:
    """Return the names of Pillow's decoders, besides the usual, of a file that starts like this.

    Raises ImageError if they are not installed.
    """
    kind = described(start)
    if kind == HEIC:
        if find_spec("pillow_heif") is None:
            raise ImageError(f"it is HEIC, which needs pillow-heif; {installs(*OPTIONAL['pillow_heif'])}")
        import pillow_heif  # takes memory that most runs do not need

        pillow_heif.register_heif_opener()
        return ("HEIF",)
    if kind == AVIF:
        Image.init()  # what Pillow has loaded so far are the most usual formats
        if "AVIF" not in Image.OPEN:
            raise ImageError("it is AVIF, which this Pillow does not read; Pillow 11.3 or newer does")
        return ("AVIF",)
    if kind == JPEG_2000 and not features.check("jpg_2000"):
        raise ImageError(
            "it is JPEG 2000, which this Pillow was built without; `pip install --force-reinstall pillow` has it"
        )
    return ()
