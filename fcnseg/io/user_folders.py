"""Folders of this user that outlive a run: `FCNSEG_HOME` if it is set, else where the system keeps such things."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """The folder of imported weights and of the key that seals engine records; it need not exist yet."""
    home = os.environ.get("FCNSEG_HOME")
    return Path(home) if home else platformdirs.user_data_path("fcnseg", appauthor=False)


def engine_folder() -> Path:
    """The folder of built engines, which can be made again at any time; it need not exist yet."""
    home = os.environ.get("FCNSEG_HOME")
    return (Path(home) if home else platformdirs.user_cache_path("fcnseg", appauthor=False)) / "engines"
