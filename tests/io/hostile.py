"""Hostile files read in a subprocess, with a limit of time and of memory: a hang or a bomb fails the test."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
MEMORY_BYTES = 2 << 30
"""Of addresses, with Python's and the libraries' own: an image of the usual size takes a hundredth."""

LIST_AND_LOAD = """
import json, sys
from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io.sources import open_source
from fcnseg.types import Failure
ends = []
for path in json.load(sys.stdin):
    found = {}
    try:
        source = open_source(path)
        for one in source:
            try:
                assert len(found) < 5000, "listed for ever"
                found[one.key] = one.reason if isinstance(one, Failure) else list(source.load(one).size)
            except ImageError as error:
                found[one.key] = str(error)
        source.close()
    except (SourceError, SettingsError) as error:
        found[""] = str(error)
    ends.append(found)
json.dump(ends, sys.stdout)
"""
"""Reads the names of sources, and prints for each the end of every image: its size, or why it failed."""

READ_MAPS = """
import json, sys
from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.pairing import find_maps
ends = []
for path in json.load(sys.stdin):
    found = {}
    try:
        for name, (location, *_) in find_maps(path).items():
            try:
                found[name] = list(read_map(location).values.shape)
            except LabelsError as error:
                found[name] = str(error)
            except MemoryError:  # of the limit; elsewhere there is a look at the memory first
                found[name] = "not enough memory"
    except LabelsError as error:
        found[""] = str(error)
    ends.append(found)
json.dump(ends, sys.stdout)
"""
"""The same of label maps."""


def ends_of(
    *sources: str | Path, code: str = LIST_AND_LOAD, seconds: float = 20, memory_bytes: int = MEMORY_BYTES
) -> list[dict[str, Any]]:
    """The end of every image of each source; every failure is one printable line or has names escaped by who prints."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([str(source) for source in sources]),
        capture_output=True,
        text=True,
        timeout=seconds,
        preexec_fn=limit,
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    ends: list[dict[str, Any]] = json.loads(done.stdout)
    assert all("\n" not in end for found in ends for end in found.values() if isinstance(end, str)), ends
    return ends


def end_of(source: str | Path, **options: Any) -> dict[str, Any]:
    """The end of every image of one source."""
    (ends,) = ends_of(source, **options)
    return ends
