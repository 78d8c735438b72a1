"""Do two revisions of fcnseg write the same files? A restructuring must not change a byte of them.

    python -m benchmarks.compare_revisions make CHECKOUT OUT [--photos DIR --truth DIR]
    python -m benchmarks.compare_revisions compare OUT OTHER

`make` runs the commands of a checkout (whose libraries must be installed) over the example scenes, and over labelled
photographs where they are named: label maps, probabilities, overlays and HDF5 files of several sources and engines,
the records of each run, scores, differences, HHA images, an exported graph, a short training. `compare` names every
file that differs, and exits with 1 if one does. Times, places and versions, which differ from run to run, are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VOLATILE = frozenset(
    {
        "ended",
        "seconds",
        "stages",
        "images_per_second",
        "bottleneck",
        "host",
        "sidecar",
        "file",
        "versions",
        "listed_at",
    }
    | {"machine", "typical_seconds", "worst", "source", "out", "predictions", "truth", "choice", "probabilities"}
    | {"overlay", "volumes", "contents", "listed_at"}
)
"""Keys of records whose values are times, places or versions."""

RENAMED = {"held": "passed", "floor": "min_agreement"}
"""Keys of records that have another name now, as CHANGELOG says."""


def _json_option(checkout: Path) -> str:
    """Return the option of `score` and `diff` that names a JSON file; earlier revisions call it --json."""
    text = (checkout / "fcnseg" / "cli" / "comparison_options.py").read_text()
    return "--json-file" if "--json-file" in text else "--json"


def make(checkout: Path, out: Path, photos: Path | None, truth: Path | None) -> None:
    """Write everything that is compared."""
    out.mkdir(parents=True)
    env = {**os.environ, "PYTHONPATH": str(checkout), "FCNSEG_HOME": str(out.parent / f"{out.name}-home")}

    def fcnseg(name: str, *arguments: object, save: bool = False) -> None:
        words = [sys.executable, "-m", "fcnseg", *map(str, arguments)]
        done = subprocess.run(words, cwd=out, env=env, capture_output=True, text=True)
        (out / f"{name}.exit").write_text(f"{done.returncode}\n")
        if done.returncode not in (0, 3):
            (out / f"{name}.error").write_text(done.stderr)
        if save:
            (out / f"{name}.out").write_text(done.stdout)

    scenes = out.parent / "scenes"
    if not scenes.exists():
        shutil.copytree(checkout / "examples" / "street" / "images", scenes)
        (scenes / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    labels = out.parent / "labels"
    if not labels.exists():
        shutil.copytree(checkout / "examples" / "street" / "labels", labels)
    archive = out.parent / "scenes.tar.gz"
    if not archive.exists():
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(scenes, "scenes")
    listed = out.parent / "list.txt"
    listed.write_text("".join(f"{p}\n" for p in sorted(scenes.glob("scene_000*.jpg"))))
    for engine in ("torch fp32", "openvino fp32", "openvino bf16"):
        backend, precision = engine.split()
        chosen = ("--backend", backend, "--precision", precision, "-q")
        fcnseg(f"{backend}-{precision}", "run", scenes, "--out", f"{backend}-{precision}", *chosen)
    exact = ("--backend", "openvino", "--precision", "fp32", "-q")
    more = ("--save-probabilities", "all-probabilities", "--overlay", "all-overlay")
    fcnseg("all", "run", listed, "--out", "all", *more, *exact)
    volumes = ("--out", "best.h5", "--save-probabilities", "best-probabilities.h5", "--top-k", 3)
    fcnseg("best", "run", archive, *volumes, *exact)
    mosaic = out.parent / "mosaic.png"
    scene = np.asarray(Image.open(scenes / "scene_0000.jpg"))
    Image.fromarray(np.tile(scene, (2, 2, 1))).save(mosaic)
    fcnseg("tiles", "run", mosaic, "--out", "tiles", "--tile", 600, *exact)
    fcnseg("part", "run", scenes, "--out", "part", "--num-parts", 3, "--part-id", 1, *exact)
    fcnseg("status", "status", "part", "--json", save=True)
    as_json = _json_option(checkout)
    lenient = ("--allow-missing", as_json)
    fcnseg("score", "score", "openvino-fp32", labels, "--boundary", "--csv", "score", *lenient, "score.json")
    fcnseg("score-probabilities", "score", "all-probabilities", labels, *lenient, "calibration.json")
    fcnseg("diff", "diff", "openvino-fp32", "openvino-bf16", as_json, "diff.json")
    fcnseg("view", "view", scenes / "scene_0000.jpg", "openvino-fp32/scene_0000.png", "--out", "view.png", "--legend")
    fcnseg("models", "models", save=True)
    fcnseg("export", "export", "street-fcn8s", "--out", "street.onnx")
    if photos and truth:
        fcnseg("photos", "run", photos, "--out", "photos", *exact)
        fcnseg("photos-score", "score", "photos", truth, "--ignore", 11, as_json, "photos-score.json")
    rows = np.linspace(900, 4000, 60 * 80).reshape(60, 80)
    depth = out.parent / "depth"
    depth.mkdir(exist_ok=True)
    Image.fromarray(rows.astype(np.uint16)).save(depth / "wall.png")
    camera = out.parent / "camera.json"
    camera.write_text(json.dumps({"fx": 70, "fy": 70, "cx": 40, "cy": 30}))
    fcnseg("hha", "hha", depth, "--camera", camera, "--out", "hha")
    data = out.parent / "data"
    for side, name in ((scenes, "images"), (labels, "labels")):
        (data / name).mkdir(parents=True, exist_ok=True)
        for file in sorted(side.glob("scene_*"))[:4]:
            shutil.copy(file, data / name)
    training = (
        "street-fcn8s",
        "--scratch",
        "--steps",
        3,
        "--batch-size",
        2,
        "--crop",
        "96x96",
        "--device",
        "cpu",
    )
    fcnseg("train", "train", "--data", data, "--out", "trained", *training, "--workers", 0, "-q")


def contents(root: Path) -> dict[str, Any]:
    """What a file holds, by its path: bytes, or of records what does not change from run to run."""
    return {p.relative_to(root).as_posix(): content(p) for p in sorted(root.rglob("*")) if p.is_file() and counts(p)}


def counts(path: Path) -> bool:
    """Whether a file is compared."""
    return not path.name.endswith((".lock", "-opening", ".pt", "-wal", "-shm")) and "tensorboard" not in path.parts


def content(path: Path) -> Any:
    """See `contents`."""
    if path.suffix == ".sqlite":
        return list(rows(path))
    if path.suffix == ".json" or path.name == "status.out":
        return steady(json.loads(path.read_text()))
    if path.suffix == ".toml":
        return path.read_text()
    return path.read_bytes()


def rows(ledger: Path) -> Iterator[Any]:
    """The rows of a ledger, without the times at which files changed."""
    with sqlite3.connect(ledger) as database:
        for name, value in database.execute("SELECT name, value FROM facts ORDER BY name"):
            if name not in VOLATILE:
                yield name, steady(json.loads(value))
        for key, state, attempts, stage, reason, outputs in database.execute(
            "SELECT key, state, attempts, stage, reason, outputs FROM images ORDER BY key"
        ):
            yield key, state, attempts, stage, reason, [output[:3] for output in json.loads(outputs or "[]")]


def steady(value: Any) -> Any:
    """A record without what differs from run to run."""
    if isinstance(value, dict):
        return {RENAMED.get(k, k): steady(v) for k, v in sorted(value.items()) if k not in VOLATILE}
    return [steady(v) for v in value] if isinstance(value, list) else value


def compare(one: Path, other: Path) -> int:
    """Print what differs; returns how many files do."""
    before, after = contents(one), contents(other)
    differing = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    for name in differing:
        print(f"differs: {name}" if name in before and name in after else f"only in one: {name}")
    print(f"{len(before.keys() & after.keys()) - len(differing)} files are the same, {len(differing)} are not")
    return len(differing)


def main() -> None:
    """Make or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("checkout", type=Path)
    making.add_argument("out", type=Path)
    making.add_argument("--photos", type=Path)
    making.add_argument("--truth", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    given = parser.parse_args()
    if given.command == "make":
        make(*(path and path.resolve() for path in (given.checkout, given.out, given.photos, given.truth)))
    else:
        sys.exit(compare(given.one, given.other) > 0)


if __name__ == "__main__":
    main()
