"""Time and peak memory to import a released weight file: at most 10 s and twice the file.

Writes files of the size of `fcn8s-heavy-pascal` (513 MiB, random numbers) and imports each in a process of its own.
Run from the project's root: `python -m benchmarks.import_weights`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fcnseg.recipes import find_recipe
from fcnseg.weights.matching import expected_shapes
from tests.caffe_files import write_caffemodel

MODEL = "voc-fcn8s"
CODE = """
from fcnseg.cli import main
try:
    main()
finally:  # ru_maxrss would be the parent's, which exec keeps
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

Tensors = dict[str, np.ndarray]


def released_tensors() -> Tensors:
    """Random tensors of the network, its deconvolutions dense and diagonal as in the release."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in expected_shapes(find_recipe(MODEL)).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.startswith("upscore"):
            values = values * np.eye(shape[0], dtype=np.float32)[:, :, None, None]
        tensors[name] = values
    return tensors


def write_caffe(path: Path, tensors: Tensors) -> None:
    """A `.caffemodel`."""
    layers: dict[str, list[np.ndarray]] = {}
    for name, array in tensors.items():
        layers.setdefault(name.rpartition(".")[0], []).append(array)
    write_caffemodel(path, layers)


def write_pytorch(path: Path, tensors: Tensors) -> None:
    """A `.pth` state dict."""
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, path)


WRITERS: dict[str, Callable[[Path, Tensors], None]] = {"caffemodel": write_caffe, "pth": write_pytorch}


def main() -> None:
    """Print one line a format."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    tensors = released_tensors()
    for kind, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder, f"w.{kind}"), Path(folder, "x.safetensors")
            write(source, tensors)
            start = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", CODE, "weights", "import", source, "--model", MODEL, "--out", out],
                check=True,
                capture_output=True,
                text=True,
            )
            seconds, size = time.monotonic() - start, source.stat().st_size
            ratio = int(done.stdout.split()[-1]) * 1024 / size
            print(f"{kind}: {size / 2**20:.0f} MiB in {seconds:.1f} s, peak memory {ratio:.2f} times the file")


if __name__ == "__main__":
    main()
