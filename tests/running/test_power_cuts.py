"""After a power cut at any moment, the same command loses nothing, calls nothing foreign, and keeps to its settings.

A run writes to an ext4 drive in a file. The file is copied at random moments: what was not flushed is not in it. Each
copy is mounted, and the run is resumed on it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.conftest import Outcome, TinyModel, make_tiny, photograph
from tests.running.loop_drive import copy_of, mounted_image, new_image

pytestmark = pytest.mark.slow

IMAGES = 150
CUTS = 8
PART = ".fcnseg-part-"

Command = Callable[..., Outcome]

OUTPUTS = {
    "folder": ("masks",),
    "probabilities": ("masks", "--save-probabilities", "probabilities"),
    "hdf5": ("masks.h5", "--save-probabilities", "probabilities.h5"),
}


@dataclass
class Cut:
    """A copy of the drive, and the number of inputs that the run had said were done by then."""

    image: Path
    said: int


class Night:
    """The photographs, the drive, and the command."""

    def __init__(self, folder: Path, images: Path, kind: str, tiny: TinyModel) -> None:
        self.folder, self.images, self.kind, self.tiny = folder, images, kind, tiny
        self.image = new_image(images / "drive")
        self.photos, self.drive = folder / "photos", folder / "drive"
        for i in range(IMAGES):
            photograph(self.photos / f"{i % 5}" / f"{i:03}.png", width=40 + i % 3, height=30, seed=i)
        (self.photos / "0" / "bad.png").write_bytes(b"no image")

    def arguments(self, drive: Path) -> list[str]:
        out, *more = OUTPUTS[self.kind]
        outputs = [str(drive / out), *(word if word.startswith("--") else str(drive / word) for word in more)]
        return ["run", str(self.photos), "--out", *outputs, *self.tiny.arguments, "-j", "2"]

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from fcnseg.cli import main; main()", *self.arguments(self.drive)]
        log = (self.folder / "log").open("wb")
        return subprocess.Popen([*command, "--json-logs"], stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def has_begun(self) -> bool:
        """Tell whether there is a ledger; `os.walk` minds no files that go away meanwhile."""
        return any("ledger" in name for _, _, names in os.walk(self.drive) for name in names)

    def said(self) -> int:
        """Return how many inputs the run has reported as done, which it does when they are durable."""
        lines = (self.folder / "log").read_bytes().splitlines()
        return sum(b'"event": "done"' in line for line in lines)

    def cut(self, number: int) -> Cut:
        return Cut(copy_of(self.image, self.images / f"cut{number}"), self.said())

    def cuts(self, rng: random.Random) -> list[Cut]:
        """Start the run, and copy the drive at random moments until it ends, and once more then."""
        cuts: list[Cut] = []
        with self.start() as child:
            while not self.has_begun() and child.poll() is None:
                time.sleep(0.001)
            while child.poll() is None:
                child.send_signal(signal.SIGSTOP)
                cuts.append(self.cut(len(cuts)))
                child.send_signal(signal.SIGCONT)
                # HDF5 files are written at the end; on a busy machine, no hundreds of copies
                pause = 0.02 if cuts[-1].said == IMAGES else 0.3
                time.sleep(rng.random() * pause * (1 + len(cuts) / 20))
            assert child.wait() == 3
        return [*cuts, self.cut(len(cuts))]


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """A folder for images of drives, in memory if there is such a place: their flushes need not wait for a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def outputs_below(drive: Path) -> dict[str, bytes]:
    files = [path for path in drive.rglob("*") if path.is_file()]
    return {str(p.relative_to(drive)): p.read_bytes() for p in files if ".fcnseg/" not in f"{p.relative_to(drive)}"}


def left_behind(drive: Path) -> list[str]:
    names = [path.name for path in drive.rglob("*")]
    return [name for name in names if name.startswith(PART) or name.endswith((".lock", "-opening", "-new"))]


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """As the run in the other process: the last bits of probabilities depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("kind", OUTPUTS)
def test_nothing_is_lost_and_nothing_foreign(
    kind: str, tmp_path: Path, images: Path, fcnseg: Command, tiny: TinyModel
) -> None:
    rng = random.Random(kind)
    night = Night(tmp_path, images, kind, tiny)
    (tmp_path / "other").mkdir()
    other = make_tiny(tmp_path / "other", seed=2)
    with mounted_image(night.image, night.drive):
        cuts = night.cuts(rng)
        undisturbed = outputs_below(night.drive)
    last = cuts.pop()
    at_the_end = [cut for cut in cuts if cut.said == IMAGES]
    before = [cut for cut in cuts if cut.said < IMAGES]
    chosen = [*rng.sample(before, min(CUTS, len(before))), *rng.sample(at_the_end, min(CUTS // 2, len(at_the_end)))]
    redone = 0
    for cut in (*chosen, last):
        with mounted_image(cut.image, night.drive):
            found = {name for name in outputs_below(night.drive) if PART not in name}
            if found:
                changed = fcnseg(*night.arguments(night.drive), "--weights", other.weights)
                assert (changed.code, "other settings" in changed.error_line) == (2, True)
            again = fcnseg(*night.arguments(night.drive), "--json")
            assert "no run of fcnseg made it" not in again.err
            summary = json.loads(again.out)
            assert again.code == 3
            assert (summary["done"] + summary["kept"], summary["failed"]) == (IMAGES, 1), again.err
            assert summary["kept"] >= cut.said
            redone += summary["done"]
            assert outputs_below(night.drive) == undisturbed
            assert left_behind(night.drive) == []
        cut.image.unlink()
    assert summary["kept"] == IMAGES, "what was said to be done when the run had ended"
    assert redone
    print(f"{kind}: {len(chosen) + 1} of {len(cuts) + 1} power cuts")
