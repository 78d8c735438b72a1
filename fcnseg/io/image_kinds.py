"""The kind of a file by its first bytes, where its name does not tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

START_BYTES = 32
"""How much of a file `kind_of` looks at."""

SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "netpbm": tuple(b"P%d%c" % (kind, blank) for kind in range(1, 7) for blank in b" \t\r\n#"),
}
"""The first bytes of encoded images, by format."""

BITMAP_HEADER_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)
"""The lengths of the headers that bitmaps had over the years."""

ISO_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
}
"""Major brands of images in the container that videos have too (ISO/IEC 23008-12, AV1 Image File Format)."""

NOT_IMAGES = """
txt md rst csv tsv json jsonl geojson xml yaml yml toml ini cfg conf log html htm css js ts py ipynb c h cpp m sh
bat ps1 tex bib sql sqlite db dat bin pkl pickle npy npz mat h5 hdf5 hdf he5 nc parquet arrow feather lmdb mdb
tfrecord record proto prototxt pt pth ckpt safetensors onnx caffemodel solverstate engine plan pdf ps eps ai doc
docx xls xlsx ppt pptx odt ods odp svg svgz zip tar gz tgz bz2 tbz2 xz txz zst 7z rar iso dmg exe dll so mp3 wav
flac aac m4a ogg mp4 m4v mov avi mkv webm wmv flv mpg mpeg mts m2ts 3gp insv lrv thm gpx srt kml dng cr2 cr3 crw nef
nrw arw sr2 srf orf rw2 raf pef srw x3f 3fr fff iiq mrw kdc dcr erf mef mos raw rwl xmp aae pp3 dop lrcat lrprev psd
psb xcf kra clip ico icns cur svs ndpi scn mrxs vms czi lif nd2 oib oif dcm nii mha mhd vtk ply obj las laz pcd bak
old orig tmp temp swp part partial crdownload download lock lnk url ini db-shm db-wal
"""

OTHER_FILES = frozenset(f".{suffix}" for suffix in NOT_IMAGES.split())
"""Suffixes of files that are not looked into: texts and data, models, documents and archives, sound and video (with the
thumbnails of videos), raw data of cameras, slides and volumes, and what editors and downloads leave."""


def is_image_by_content(name: str, start: Callable[[], bytes]) -> bool:
    """Tell whether a file is an image by its first START_BYTES; they are not asked for if its name says otherwise."""
    if name.endswith("~") or PurePosixPath(name).suffix.lower() in OTHER_FILES:
        return False
    return kind_of(start()) is not None


def kind_of(start: bytes) -> str | None:
    """Return the format of an image by its first START_BYTES; None if they are of none that is known."""
    for kind, signatures in SIGNATURES.items():
        if start.startswith(signatures):
            return kind
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WebP"
    if start.startswith(b"BM") and int.from_bytes(start[14:18], "little") in BITMAP_HEADER_BYTES:
        return "BMP"
    if start[4:8] == b"ftyp":
        return next((kind for kind, brands in ISO_BRANDS.items() if start[8:12] in brands), None)
    return None
