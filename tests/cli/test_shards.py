"""Runs with a URL as their output, over the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_run import label_maps
from tests.conftest import Outcome, TinyModel, photograph

pytest.importorskip("obstore")
pytest.importorskip("pyarrow")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(5):
        photograph(tmp_path / "photos" / f"{i}.png", seed=i)
    return tmp_path / "photos"


def test_a_url_gets_the_label_maps_of_a_folder(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    (photos / "bad.png").touch()
    url = f"file://{tmp_path}/remote"
    run = ["run", photos, "--out", url, *tiny.arguments, "--shard-images", 2]
    estimate = fcnseg(*run, "--dry-run")
    assert (estimate.code, "inputs        6" in estimate.out) == (0, True)
    assert not (tmp_path / "remote").exists()
    assert fcnseg("status", url).code == 1
    done = fcnseg(*run)
    assert (done.code, "5 label maps" in done.err, "failed: bad.png" in done.err) == (3, True, True)
    assert fcnseg("run", photos, "--out", tmp_path / "local", *tiny.arguments).code == 3
    remote, local = ({p.name: p.read_bytes() for p in label_maps(tmp_path / name)} for name in ("remote", "local"))
    assert remote == local
    state = fcnseg("status", url, "--failures")
    assert state.code == 3
    assert state.out.splitlines()[:2] == ["5 of 6 inputs are done, 1 failed", "3 of 3 shards are done"]
    assert "bad.png: load: the file is empty" in state.out
    values = json.loads(fcnseg("status", url, "--json").out)
    assert (values["shards"], values["parts"][0]["done"]) == ({"total": 3, "done": 3, "drivers": []}, 5)
    again = fcnseg(*run, "--json-logs")
    events = [json.loads(line) for line in again.err.splitlines()]
    assert [(e["kept"], e["failed"]) for e in events if e["event"] == "earlier"] == [(5, 0)]
    assert [e["done"] for e in events if e["event"] == "shards"] == [3]
    assert (events[-1]["event"], events[-1]["kept"], events[-1]["failed_before"]) == ("end", 5, 1)
    refused = fcnseg("run", photos, "--out", tmp_path / "remote", *tiny.arguments)
    assert "was filled in shards" in refused.error_line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "s3:/bucket/x"], "one slash"),
        (["--out", "ftp://host/x"], "s3://, gs://, az:// or file://"),
        (["--out", "s3://bucket/x.h5"], "HDF5 files are written by one machine"),
        (["--out", "masks", "--shard-images", "4"], "--shard-images is for runs on Ray"),
        (["--out", "masks", "--ray-address", "host:6379"], "give --on ray"),
        (["--out", "masks", "--on", "dask"], "use ray"),
        (["--out", "file:///x", "--storage-option", "region"], "no KEY=VALUE"),
        (["--out", "file:///x", "--overlay", "drawn"], "URLs, all of them"),
    ],
)
def test_options_that_cannot_be(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, photos: Path, arguments: list[str], said: str
) -> None:
    refused = fcnseg("run", photos, *arguments, *tiny.arguments)
    assert (refused.code, said in refused.error_line) == (2, True)
