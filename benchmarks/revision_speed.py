"""Speed of `fcnseg run` in two revisions, in turns, and whether they give the same label maps.

    python -m benchmarks.revision_speed CHECKOUT PHOTOS [--model M] [--precision P ...] [--rounds N] [--copies N]
                                [--home DIR]

CHECKOUT is another revision's worktree; both run in this environment's libraries. Each round runs the same photographs
(every one `copies` times) in one revision and then in the other, starting with another one each time, each in a fresh
process with the engine cached. Images a second are the run's own, without the start of the program; ratios are of a
round, and their median, least and largest are printed. Engines for int8 are calibrated on the photographs. `--home`
keeps the engines for the next call; with `--rounds 0` they are built, and nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.pipeline import linked
from fcnseg.engine.hardware import cpu_name
from fcnseg.workers.limits import usable_cores

HERE = Path(__file__).resolve().parent.parent


def fcnseg(checkout: Path, home: Path, *words: object) -> None:
    """Run a command of a checkout."""
    env = {**os.environ, "PYTHONPATH": str(checkout), "FCNSEG_HOME": str(home)}
    command = [sys.executable, "-c", "from fcnseg.cli import main; main()", *map(str, words)]
    done = subprocess.run(command, cwd=home.parent, env=env, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout.name} failed: {done.stderr}")


def images_per_second(out: Path) -> float:
    """The rate that a run recorded."""
    summary = json.loads((out / ".fcnseg" / "run.json").read_text())
    return float(summary["images_per_second"])


def differing(one: Path, other: Path) -> tuple[int, int]:
    """The label maps of two outputs, and those of them that are not the same bytes."""
    names = [{p.relative_to(out) for p in out.rglob("*.png")} for out in (one, other)]
    if names[0] != names[1]:
        raise SystemExit("the outputs have other names")
    return len(names[0]), sum((one / name).read_bytes() != (other / name).read_bytes() for name in names[0])


def measure(checkouts: list[Path], photos: Path, given: argparse.Namespace, precision: str, folder: Path) -> None:
    """Build both engines, run them in turns, and print."""
    images = linked(photos, folder / "photos", given.copies * len(list(photos.iterdir())))
    chosen = ["--model", given.model, "--backend", "openvino", "--precision", precision]
    chosen += ["--calibrate", photos] if precision == "int8" else []
    rates: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
    homes = {checkout: (given.home or folder).resolve() / f"home{i}" for i, checkout in enumerate(checkouts)}
    outs = dict.fromkeys(checkouts, folder)
    for checkout, home in homes.items():
        home.mkdir(parents=True, exist_ok=True)
        fcnseg(checkout, home, "run", photos, "--out", folder / f"first{home.name}", "-q", *chosen)
    for round_ in range(given.rounds):
        for checkout in checkouts[:: 1 if round_ % 2 else -1]:
            outs[checkout] = folder / f"out{homes[checkout].name}-{round_}"
            fcnseg(checkout, homes[checkout], "run", images, "--out", outs[checkout], "-q", *chosen)
            rates[checkout].append(images_per_second(outs[checkout]))
    if not given.rounds:
        return
    ratios = sorted(new / old for old, new in zip(*rates.values(), strict=True))
    old, new = (median(each) for each in rates.values())
    count, others = differing(*outs.values())
    print(
        f"    {precision:5} {old:.1f} -> {new:.1f} images/s, {median(ratios):.2f} times "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}); {others} of {count} label maps differ",
        flush=True,
    )


def main() -> None:
    """Compare the other revision with this one in each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="street-fcn8s")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--home", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=2)
    given = parser.parse_args()
    print(f"    {cpu_name()}, {usable_cores()} cores, {datetime.now(UTC):%Y-%m-%d}, {given.model}")
    for precision in given.precision:
        with tempfile.TemporaryDirectory(prefix="fcnseg-benchmark-") as folder:
            measure([given.checkout.resolve(), HERE], given.photos.resolve(), given, precision, Path(folder))


if __name__ == "__main__":
    main()
