"""`fcnseg score`, `diff` and `compare` of label maps in a bucket; URLs where paths are meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome
from tests.storage_servers import options_of, rclone_server

pytest.importorskip("obstore")

Command = Callable[..., Outcome]


@pytest.mark.slow
def test_figures_are_those_of_local_files(tmp_path: Path, fcnseg: Command) -> None:
    rng = np.random.default_rng(0)
    for name in ("truth", "first", "second"):
        for number in range(5):
            file = tmp_path / f"served/bucket/maps/{name}/{number % 2}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 5, (20, 30), dtype=np.uint8)).save(file)
    record = {"engine": {"heads": {"labels": [f"class {i}" for i in range(5)]}, "model": "unknown"}}
    (tmp_path / "served/bucket/maps/first/.fcnseg").mkdir()
    (tmp_path / "served/bucket/maps/first/.fcnseg/run.json").write_text(json.dumps(record))
    with rclone_server(tmp_path / "served") as endpoint:
        options = [f"--storage-option={name}={value}" for name, value in options_of(endpoint).items()]
        for command, places in (
            ("score", ["first", "truth"]),
            ("diff", ["first", "second"]),
            ("compare", ["first", "second", "--gt", "truth"]),
        ):
            local, remote = (
                [place if place == "--gt" else f"{root}/{place}" for place in places]
                for root in (tmp_path / "served/bucket/maps", "s3://bucket/maps")
            )
            ours = fcnseg(command, *remote, "--classes", 5, "--json", "-q", *options)
            theirs = fcnseg(command, *local, "--classes", 5, "--json", "-q")
            assert ours.code == theirs.code == 0
            figures = ours.out.replace("s3://bucket/maps", str(tmp_path / "served/bucket/maps"))
            assert json.loads(figures) == json.loads(theirs.out)
            assert "secret" not in ours.out
        image, mask = "s3://bucket/maps/truth/0/0.png", "s3://bucket/maps/first/0/0.png"
        viewed = fcnseg("view", image, mask, "--classes", 5, "--out", tmp_path / "view.png", *options)
        assert viewed.code == 0
        assert Image.open(tmp_path / "view.png").size == (30, 20)
        refused = fcnseg("score", "s3://bucket/maps/first", "s3://bucket/maps/truth", "--classes", 4, *options)
        assert "predicted with 5 classes" in refused.error_line


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "a", "b", "--json-file", "s3://bucket/x.json"),
        ("score", "a", "b", "--report", "gs://bucket/x.html"),
        ("diff", "a", "b", "--report", "az://bucket/x.html"),
        ("export", "street-fcn8s", "--out", "s3://bucket/x.onnx"),
        ("build-engine", "--out", "https://bucket/x"),
        ("run", "photos", "--out", "masks", "--weights", "s3://bucket/x.caffemodel"),
    ],
)
def test_urls_where_paths_are_meant_are_refused(
    arguments: tuple[str, ...], fcnseg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = fcnseg(*arguments)
    assert ended.code == 2
    assert f"{arguments[-2]} is a place on this machine" in ended.error_line
    assert list(tmp_path.iterdir()) == []
