"""Cost of the pipeline beside the network, and its behaviour with many images.

From the project's root: `python -m benchmarks.pipeline overhead|null|memory|resume [PHOTOS]`, PHOTOS being a folder of
photographs of 480 x 360 (by default the rendered scenes of the examples, which are of that size).

    overhead   images/s of a whole run with the bundled model, and of its bare engine on the same decoded images, in
               turns within one process; asked: at least 90 %
    null       images/s and Python's own time an image with an engine that does nothing; asked: 400 images/s, 0.5 ms
    memory     resident memory after 20,000 images beside that after 2,000; asked: within 10 %
    resume     seconds until a run of 100,000 images that are all done has found that out; asked: 5 s
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
import psutil

from fcnseg.engine.hardware import cpu_name
from fcnseg.engine.open import engine_from
from fcnseg.engine.options import EngineOptions
from fcnseg.io.sources import open_source
from fcnseg.io.storage import LocalFolder
from fcnseg.recipes import find_recipe
from fcnseg.running.hooks import Hooks
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.pipeline import Pipeline
from fcnseg.running.predictor import Predictor
from fcnseg.running.sinks import LabelPngSink
from fcnseg.types import (
    EngineInfo,
    Failure,
    Frame,
    Labels,
    OutputName,
    Pixels,
    Prediction,
    Probabilities,
    Reference,
    Reserve,
    Summary,
)
from fcnseg.workers.limits import usable_cores

RECIPE = find_recipe("street-fcn8s")
EXAMPLES = Path(__file__).parent.parent / "examples" / "street" / "images"
LINKS = 20_000
OVERHEAD_IMAGES, OVERHEAD_ROUNDS, NULL_IMAGES = 300, 3, 2000


class NullEngine:
    """Says "class 0" everywhere, at once."""

    def __init__(self) -> None:
        heads = {head.name: head.labels for head in RECIPE.heads}
        self.info = EngineInfo("null", "none", "none", RECIPE.name, "0", heads, ("color",), {})

    def infer(
        self,
        inputs: Mapping[str, Pixels],
        probabilities: bool = False,  # noqa: ARG002
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Zeros, N x H x W."""
        return {"labels": np.zeros(inputs["color"].shape[:3], np.uint8)}, None

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def linked(photos: Path, folder: Path, count: int) -> Path:
    """A folder of that many names, each a hard link to one of the photographs."""
    files = sorted(p for p in photos.iterdir() if p.suffix in (".jpg", ".png"))
    for i in range(count):
        if i % LINKS == 0:  # file systems bound the links to a file
            copies = [Path(shutil.copy(p, folder.parent / f"{i}{p.name}")) for p in files]
        link = folder / f"{i // 1000:03}" / f"{i:06}{files[i % len(files)].suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(copies[i % len(copies)], link)
    return folder


def flow(photos: Path, out: Path, engine: Any, hooks: Hooks | None = None, workers: int | None = None) -> Summary:
    """One run of the pipeline into an output folder."""
    (out / ".fcnseg").mkdir(parents=True, exist_ok=True)
    workers = workers or min(8, usable_cores())
    with SqliteLedger(out / ".fcnseg" / "ledger.sqlite", out) as ledger:
        return Pipeline(
            open_source(photos),
            Predictor(engine, RECIPE),
            [LabelPngSink(LocalFolder(out), engine.info)],
            ledger,
            workers=workers,
            hooks=hooks or Hooks(),
        ).run()


def overhead(photos: Path, folder: Path) -> None:
    """A run beside its bare engine."""
    source = linked(photos, folder / "photos", OVERHEAD_IMAGES)
    opened = open_source(source)
    frames = [opened.load(r) for r in opened if isinstance(r, Reference)]
    with engine_from(EngineOptions(RECIPE.name)) as engine:
        engine.infer({"color": frames[0].inputs["color"][None]})
        bare, whole = [], []
        for round_ in range(OVERHEAD_ROUNDS):
            start = time.perf_counter()
            for frame in frames:
                engine.infer({"color": frame.inputs["color"][None]})
            bare.append(len(frames) / (time.perf_counter() - start))
            summary = flow(source, folder / f"out{round_}", engine)
            whole.append(summary.done / summary.seconds)
        print(f"    {engine.info.backend} {engine.info.precision}, {len(frames)} images, medians of {OVERHEAD_ROUNDS}:")
    print(f"    bare engine {median(bare):.1f} images/s, run {median(whole):.1f} images/s")
    ratio = median(w / b for w, b in zip(whole, bare, strict=True))
    print(f"    ratio {ratio:.1%} (asked: 90 %)")
    print("    busy: " + ", ".join(f"{name} {t.utilisation:.0%}" for name, t in summary.stages.items()))


def null(photos: Path, folder: Path) -> None:
    """The pipeline alone."""
    source = linked(photos, folder / "photos", NULL_IMAGES)
    rates = []
    for round_ in range(3):
        summary = flow(source, folder / f"out{round_}", NullEngine())
        rates.append(summary.done / summary.seconds)
    print(f"    {NULL_IMAGES} images, median of 3: {median(rates):.0f} images/s (asked: 400)")
    print("    busy: " + ", ".join(f"{name} {t.utilisation:.0%}" for name, t in summary.stages.items()))
    (folder / "own" / ".fcnseg").mkdir(parents=True)
    start, cpu = time.perf_counter(), time.process_time()
    with SqliteLedger(folder / "own" / ".fcnseg" / "ledger.sqlite", folder / "own") as ledger:
        summary = Pipeline(ReadyMade(), Predictor(NullEngine(), RECIPE), [Nowhere(folder)], ledger).run()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    own, took = cpu / summary.done * 1000, wall / summary.done * 1000
    print(f"    without decoding and encoding: {own:.3f} ms of processor, {took:.3f} ms of time an image (asked: 0.5)")


class ReadyMade:
    """5,000 images that need no decoding."""

    frame = np.zeros((360, 480, 3), np.uint8)

    def __iter__(self) -> Iterator[Reference]:
        return (Reference(f"{i:06}.jpg", f"{i:06}", "", None) for i in range(5000))

    def fingerprint(self, reference: Reference) -> str:  # noqa: ARG002
        """They never change."""
        return "1"

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """The same pixels for all."""
        reserve(self.frame.nbytes)
        return Frame(reference.key, reference.stem, {"color": self.frame})

    def close(self) -> None:
        """Nothing is open."""


class Nowhere:
    """A sink without files."""

    names: tuple[OutputName, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.storage = LocalFolder(folder)

    def encode(self, frame: Frame, prediction: Prediction) -> Iterator[tuple[str, Iterable[bytes]]]:  # noqa: ARG002
        """Yield nothing."""
        return iter(())


def memory(photos: Path, folder: Path) -> None:
    """Whether memory grows with the number of images."""
    source = linked(photos, folder / "photos", 20_000)
    found: dict[int, float] = {}
    ended = 0

    def on_result(key: str, failure: Failure | None) -> None:  # noqa: ARG001
        nonlocal ended
        ended += 1
        if ended in (2_000, 20_000):
            found[ended] = psutil.Process().memory_info().rss / 2**20

    flow(source, folder / "out", NullEngine(), Hooks(on_result=on_result))
    after, later = found[2_000], found[20_000]
    print(f"    {after:.0f} MiB after 2,000 images, {later:.0f} MiB after 20,000: {later / after:.1%} (asked: 110 %)")


def resume(photos: Path, folder: Path) -> None:  # noqa: ARG001
    """A run over what is done."""
    from PIL import Image

    tiny = folder / "tiny"
    tiny.mkdir()
    Image.new("RGB", (4, 4)).save(tiny / "one.png")
    ones = linked(tiny, folder / "photos", 100_000)
    arguments = ["run", str(ones), "--out", str(folder / "out"), "-q"]
    for name in ("first", "again"):
        start, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-c", "from fcnseg.cli import main; main()", *arguments], check=True)
        wall, after = time.perf_counter() - start, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        print(f"    100,000 images, {name}: {wall:.1f} s, the whole command, {cpu:.1f} s of processor")


def main() -> None:
    """Run one part and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"overhead": overhead, "null": null, "memory": memory, "resume": resume}
    parser.add_argument("part", choices=parts)
    parser.add_argument("photos", nargs="?", type=Path, default=EXAMPLES)
    options = parser.parse_args()
    print(f"## {datetime.now(UTC):%Y-%m-%d}, `python -m benchmarks.pipeline {options.part}`\n")
    print(f"    {cpu_name()}, {usable_cores()} cores")
    with tempfile.TemporaryDirectory(prefix="fcnseg-benchmark-") as folder:
        parts[options.part](options.photos, Path(folder))


if __name__ == "__main__":
    main()
