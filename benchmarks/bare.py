"""Run a module on a machine that lacks some of fcnseg's packages and where nothing can be installed.

GPUs are often lent bare: Python, torch, onnx, and no network. `benchmarks/stand_ins` holds the least of what fcnseg
asks of small packages; those that are missing here are taken from there, by subprocesses too, and named. What writes
recipes, shows pictures or downloads goes without. From the project's root:
`python -m benchmarks.bare MODULE [ARGUMENTS]`.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

STAND_INS = Path(__file__).parent / "stand_ins"


def missing() -> list[Path]:
    """List the stand-ins of packages that are not installed here."""
    return [path for path in sorted(STAND_INS.iterdir()) if path.stem != "__pycache__" and find_spec(path.stem) is None]


def main() -> None:
    """Run the module that the command names, with stand-ins."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    used = missing()
    with tempfile.TemporaryDirectory() as folder:
        for path in used:
            (Path(folder) / path.name).symlink_to(path)
        if used:
            print(f"stand-ins for packages that are not installed: {', '.join(path.stem for path in used)}", flush=True)
            sys.path.insert(1, folder)
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
        sys.argv[:] = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
