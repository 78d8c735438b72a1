"""The SHA-256 of files that were pulled before, for those whose hash nobody published."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from fcnseg.errors import DownloadError
from fcnseg.io.atomic import write_whole
from fcnseg.weights.store import store_folder


def pin_file(model: str, file: str) -> Path:
    """Return the file, as `sha256sum` writes it, that pins a weight file of a model; it need not exist."""
    return store_folder() / "pins" / quote(model, safe=" ") / f"{quote(file, safe=' ')}.sha256"


def pinned_sha256(model: str, file: str) -> str | None:
    """Return the pinned SHA-256, None for a file that was never pulled. Raises DownloadError for a damaged pin."""
    path = pin_file(model, file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DownloadError(f"{path} cannot be read ({error}); mend it, or delete it to trust the next file") from error
    digest = text.partition(" ")[0].strip()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise DownloadError(f"{path} holds no SHA-256; mend it, or delete it to trust the next file")
    return digest


def write_pin(model: str, file: str, digest: str) -> Path:
    """Write the SHA-256 that later pulls must bring; return the file that holds it."""
    path = pin_file(model, file)
    write_whole(path, [f"{digest}  {file}\n".encode()])
    return path
