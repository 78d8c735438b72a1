"""What several test folders share: a tiny model with random weights, and a way to run the command in this process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

try:
    from hypothesis import settings
except ImportError:  # on a machine with a GPU and little else, where tests/gpu run
    pass
else:
    settings.register_profile("untimed", deadline=None)  # machines are busy now and then
    settings.load_profile("untimed")

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs of shells, and so by all children

TINY = """
name = "{name}"
[architecture]
backbone = "{backbone}"
stride = {stride}
geometry = "{geometry}"
width = 0.07
fc_width = 8
{streams}
{heads}
"""

COLOR = """
[[streams.inputs]]
modality = "color"
order = "bgr"
mean = [104.0, 117.0, 123.0]
"""

STREAMS = {
    "color": "[[streams]]" + COLOR,
    "depth": '[[streams]]\nfirst_layer = "conv1_1_bgrd"'
    + COLOR
    + '[[streams.inputs]]\nmodality = "depth"\norder = "log"\nmean = [7.8]',
    "hha": '[[streams]]\nsuffix = "color"'
    + COLOR
    + '[[streams]]\nsuffix = "hha"\n[[streams.inputs]]\nmodality = "hha"\norder = "as-stored"\n'
    + "mean = [132.0, 94.0, 118.0]",
}


@dataclass(frozen=True)
class TinyModel:
    """A recipe file and a weights file that fits it."""

    recipe: Path
    weights: Path

    @property
    def arguments(self) -> list[str]:
        """For runs whose engine does not matter: torch's needs no building."""
        return ["--model", str(self.recipe), "--weights", str(self.weights), "--backend", "torch"]


def make_tiny(
    folder: Path,
    streams: str = "color",
    backbone: str = "vgg16",
    stride: int = 8,
    geometry: str = "same",
    heads: int = 1,
    classes: int = 5,
    seed: int = 1,
) -> TinyModel:
    """A narrow network with random scores, so that label maps vary from pixel to pixel."""
    import torch
    from safetensors.torch import save_file

    from fcnseg.models import FCN, network_spec
    from fcnseg.recipes import load_recipe

    name = f"tiny-{backbone}-{stride}-{streams}-{geometry}" + (
        f"-{heads}x{classes}" if (heads, classes) != (1, 5) else ""
    )
    names = [chr(97 + i) if classes < 27 else f"class {i}" for i in range(classes)]
    tables = [
        f"[[heads]]\nclasses = {json.dumps(names[: classes - h])}"
        + ("\nignore = 65535" if classes > 255 else "")
        + (f'\nname = "head{h}"\nsuffix = "_{h}"' if heads > 1 else "")
        for h in range(heads)
    ]
    recipe = folder / f"{name}.toml"
    recipe.write_text(
        TINY.format(
            name=name,
            backbone=backbone,
            stride=stride,
            geometry=geometry,
            streams=STREAMS[streams],
            heads="\n".join(tables),
        )
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FCN(network_spec(load_recipe(recipe)))
        for layer, module in network.named_children():
            if layer.startswith("score_"):
                torch.nn.init.normal_(module.weight, std=0.3)  # type: ignore[arg-type]
                torch.nn.init.normal_(module.bias)  # type: ignore[arg-type]
    weights = folder / f"{name}.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights, {"recipe": name})
    return TinyModel(recipe, weights)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines and imported weights of the tests, shared by the processes that run them."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fcnseg-home"
    os.environ["FCNSEG_HOME"] = str(home)
    return home


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A small FCN-8s over colour images."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one error line; fails unless there is exactly one, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("fcnseg: error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@pytest.fixture
def fcnseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process: `fcnseg("run", photos, "--out", masks)`."""
    from fcnseg.cli import console, main

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fcnseg", *map(str, arguments)])
        console.out.cache_clear()
        console.err.cache_clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return call


def photograph(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    """A smooth random image: neighbouring pixels are alike, as in photographs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
