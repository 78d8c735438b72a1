"""The smoke test of training: a small net learns four rendered scenes by heart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

ROOT = Path(__file__).parents[2]

BY_HEART = """
hflip = false
color_jitter = 0.0
crop = [0, 0]
class_balance_power = 0.0
ema_decay = 0.95
"""


@pytest.mark.slow
def test_a_small_net_learns_four_scenes_by_heart(fcnseg: Callable[..., Outcome], tmp_path: Path) -> None:
    render = [sys.executable, ROOT / "examples" / "render_street.py", "--width", "320", "--height", "240"]
    data = tmp_path / "data"
    subprocess.run([*render, data / "train", "--count", "4"], check=True, capture_output=True)
    subprocess.run([*render, data / "val", "--count", "1", "--seed", "50"], check=True, capture_output=True)
    (tmp_path / "by_heart.toml").write_text(BY_HEART)
    run = tmp_path / "run"
    options = ["--scratch", "--preset", tmp_path / "by_heart.toml", "--epochs", 120, "-b", 2, "--validate-every", 120]
    trained = fcnseg("train", "street-fcn8s", "--data", data, "--out", run, *options)
    assert trained.code == 0, trained.err
    images, labels = data / "train" / "images", data / "train" / "labels"
    ran = fcnseg("run", images, "--model", run / "model.toml", "--backend", "torch", "--out", tmp_path / "masks")
    assert ran.code == 0, ran.err
    model = run / "model.toml"
    scored = fcnseg("score", tmp_path / "masks", labels, "--model", model, "--json-file", tmp_path / "score.json")
    assert scored.code == 0, scored.err
    figures = json.loads((tmp_path / "score.json").read_text())
    assert figures["pixel_accuracy"] > 0.95
    assert figures["mean_iu"] > 0.80
