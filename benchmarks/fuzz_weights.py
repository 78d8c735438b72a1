"""Damaged weight files of every form: each is read whole or refused in one line, and none crashes or hangs.

Writes a small network in each form, damages it (cuts, flipped bits, zeroed, repeated, foreign and overwritten bytes,
at its start more often) and reads it, 2,000 times a form with fixed seeds; each form in a process of its own, so that
a crash of a library is seen. Run from the project's root: `python -m benchmarks.fuzz_weights`.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fcnseg.errors import FcnsegError
from fcnseg.recipes import Recipe, load_recipe
from fcnseg.weights.fit import fit
from fcnseg.weights.importing import import_weights
from fcnseg.weights.reading import read_weights
from tests.weights.conftest import DEFAULTS, RECIPE, numbers
from tests.weights.forms import FORMS, coarse

FILES = 2000
IMPORTED_EACH = 20
"""One file in so many is imported, the others are read and fitted: all but written."""

HANG_SECONDS = 60.0


def main() -> int:
    """Print one line a form; return 1 if any file was neither read nor refused in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=FILES, metavar="N", help="damaged files of each form")
    parser.add_argument("--form", choices=sorted(FORMS), help="only this one, in this process")
    options = parser.parse_args()
    if options.form:
        return fuzz(options.form, options.files)
    failed = 0
    for form in FORMS:
        words = ["--form", form, "--files", str(options.files)]
        failed += subprocess.run([sys.executable, "-m", "benchmarks.fuzz_weights", *words], check=False).returncode != 0
    print(f"{len(FORMS)} forms, {failed} with faults")
    return int(failed > 0)


def fuzz(form: str, files: int) -> int:
    """Read damaged files of a form; return 1 at the first that is neither read nor refused in one line."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        recipe, whole = _seed(form, Path(folder))
        path, out = Path(folder, "damaged"), Path(folder, "out.safetensors")
        for seed in range(files):
            path.write_bytes(damaged(whole, random.Random(f"{form} {seed}")))
            out.unlink(missing_ok=True)
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            try:
                if seed % IMPORTED_EACH:
                    fit(read_weights(path), recipe)
                else:
                    import_weights(path, recipe, out)
                outcomes["read"] += 1
            except FcnsegError as error:
                outcomes["refused"] += 1
                if "\n" in str(error) or not str(error).isprintable() or out.exists():
                    print(f"{form} {seed}: not one clean line: {str(error)!r}")
                    return 1
            except Exception as error:  # what this looks for
                print(f"{form} {seed}: {type(error).__name__}: {error}")
                return 1
            faulthandler.cancel_dump_traceback_later()
    print(f"{form}: {outcomes['read']} read, {outcomes['refused']} refused", flush=True)
    return 0


def _seed(form: str, folder: Path) -> tuple[Recipe, bytes]:
    """Return a small recipe, and the file of its weights in a form."""
    values = DEFAULTS | {"width": 0.02, "fc_width": 2}
    (folder / "small.toml").write_text(RECIPE.format(**values))
    recipe = load_recipe(folder / "small.toml")
    FORMS[form](folder / "whole", coarse(numbers(recipe)))
    return recipe, (folder / "whole").read_bytes()


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Return a file with one to three damages."""
    for _ in range(draw.randint(1, 3)):
        reach = draw.choice([32, 400, len(whole), len(whole)])
        at = draw.randrange(max(1, min(reach, len(whole))))
        if draw.random() < 0.2:
            at = max(0, len(whole) - 1 - at)  # the ends of zip archives
        size = draw.choice([1, 2, 4, 8, 64, 512])
        kind = draw.choice(["cut", "flip", "flip", "flip", "zero", "repeat", "foreign", "overwrite", "overwrite"])
        middle = whole[at : at + size]
        if kind == "cut":
            whole = whole[:at]
        elif kind == "flip":
            whole = whole[:at] + bytes([middle[0] ^ 1 << draw.randrange(8)]) + whole[at + 1 :] if middle else whole
        elif kind == "zero":
            whole = whole[:at] + bytes(len(middle)) + whole[at + size :]
        elif kind == "repeat":
            whole = whole[:at] + middle + whole[at:]
        else:
            after = at if kind == "foreign" else at + size
            whole = whole[:at] + draw.randbytes(size) + whole[after:]
    return whole


if __name__ == "__main__":
    sys.exit(main())
