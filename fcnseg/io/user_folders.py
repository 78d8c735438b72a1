"""Folders of this user that outlive a run.

`FCNSEG_HOME` holds everything if it is set, else there are the places where the system keeps such things. A user
without a home (as in many containers) has a folder in the temporary one.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

ENGINES = "FCNSEG_ENGINES"
"""The variable that names the folder of engines, and of the key that seals their records, where it is another."""


def data_folder() -> Path:
    """The folder of imported weights and of the key that seals engine records; it need not exist yet."""
    return _home() or _platform_folder("data")


def engine_folder() -> Path:
    """The folder of built engines, which can be made again at any time; it need not exist yet."""
    if folder := os.environ.get(ENGINES):
        return Path(folder)
    return (_home() or _platform_folder("cache")) / "engines"


def key_file() -> Path:
    """The file of the key that seals engine records; it need not exist yet."""
    return (engine_folder() if os.environ.get(ENGINES) else data_folder()) / "engine-key"


def library_folder(name: str) -> Path:
    """Return a folder, made as needed, for the files that a library would else write to the user's home."""
    for parent in (_home() or _platform_folder("cache"), temporary_home()):
        folder = parent / name
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return Path(tempfile.mkdtemp(prefix="fcnseg-"))


def use_temporary_engines() -> Path | None:
    """Keep engines in the temporary folder from now on, in this process and its subprocesses; None if they are already.

    Raises OSError if nothing can be written there.
    """
    folder = temporary_home() / "engines"
    if os.environ.get(ENGINES) == str(folder):
        return None
    folder.mkdir(exist_ok=True)
    os.environ[ENGINES] = str(folder)
    return folder


def temporary_home() -> Path:
    """Return a folder of this user alone in the temporary folder, made as needed."""
    user = os.getuid() if hasattr(os, "getuid") else os.getpid()
    folder = Path(tempfile.gettempdir()) / f"fcnseg-{user}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    ours = not hasattr(os, "getuid") or (status.st_uid == user and not status.st_mode & 0o077)
    if stat.S_ISDIR(status.st_mode) and ours:
        return folder
    return Path(tempfile.mkdtemp(prefix="fcnseg-"))  # somebody else has taken the name


def _home() -> Path | None:
    home = os.environ.get("FCNSEG_HOME")
    return Path(home) if home else None


def _platform_folder(kind: Literal["data", "cache"]) -> Path:
    import platformdirs  # where FCNSEG_HOME names the place, it need not be there

    find = platformdirs.user_data_path if kind == "data" else platformdirs.user_cache_path
    try:
        return find("fcnseg", appauthor=False)
    except RuntimeError:  # a user without a home
        return temporary_home()
