"""SHA-256 of weight files, remembered across processes: the released ones take half a second to read."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from fcnseg.errors import WeightsError
from fcnseg.io.atomic import whole_file
from fcnseg.io.hashing import file_sha256, file_state
from fcnseg.io.user_folders import engine_folder


def weights_sha256(path: Path) -> str:
    """Return the SHA-256 of a weight file, in hexadecimal, from the user's `weights.json` while the file is unchanged.

    Raises WeightsError if the file cannot be read.
    """
    memory = engine_folder() / "weights.json"
    try:
        real_path, state = os.path.realpath(path), list(file_state(path)[:4])
        remembered = _read(memory)
        entry = remembered.get(real_path)
        if isinstance(entry, list) and entry[:4] == state:
            return str(entry[4])
        digest = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    with suppress(OSError), whole_file(memory) as file:  # without a memory every process computes it anew
        file.write(json.dumps({**remembered, real_path: [*state, digest]}).encode())
    return digest


def _read(memory: Path) -> dict[str, object]:
    try:
        remembered = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}
