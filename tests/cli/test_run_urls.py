"""`fcnseg run` of images in a bucket, through a proxy that stands for what goes wrong there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Outcome, TinyModel, photograph
from tests.storage_servers import ENVIRONMENT, FaultyProxy, rclone_server

pytest.importorskip("obstore")
pytestmark = pytest.mark.slow

Command = Callable[..., Outcome]
IMAGES = 12

NO_SAMPLE = "--no-space-check"
"""Without it a run reads some images before it starts, to learn their sizes."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A bucket with images below `photos/`, behind a proxy that is the endpoint of the environment."""
    for name, value in {**ENVIRONMENT, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    for number in range(IMAGES):
        photograph(bucket_of(tmp_path) / f"photos/{'abc'[number % 3]}/im {number}#%20.png", seed=number)
    with rclone_server(tmp_path / "served") as server:
        proxy = FaultyProxy(server)
        with proxy.served() as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            yield proxy


def bucket_of(folder: Path) -> Path:
    return folder / "served/bucket"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.png")
        if ".fcnseg" not in path.parts
    }


def states(out: Path) -> dict[str, int]:
    with closing(sqlite3.connect(out / ".fcnseg/ledger.sqlite")) as database:
        return dict(database.execute("SELECT state, count(*) FROM images GROUP BY state").fetchall())


def test_labels_are_those_of_local_files(served: FaultyProxy, tmp_path: Path, tiny: TinyModel, fcnseg: Command) -> None:
    local, remote = tmp_path / "local", tmp_path / "remote"
    assert fcnseg("run", bucket_of(tmp_path) / "photos", "--out", local, NO_SAMPLE, *tiny.arguments).code == 0
    assert fcnseg("run", "s3://bucket/photos", "--out", remote, NO_SAMPLE, *tiny.arguments).code == 0
    assert contents(remote) == contents(local)
    assert len(contents(remote)) == IMAGES
    gets = len(served.requests)
    assert fcnseg("run", "s3://bucket/photos/", "--out", remote, NO_SAMPLE, *tiny.arguments).code == 0
    assert not [path for method, path in served.requests[gets:] if ".png" in path]


def test_secrets_are_in_no_record(served: FaultyProxy, tmp_path: Path, tiny: TinyModel, fcnseg: Command) -> None:
    assert served
    options = ["--storage-option", "secret_access_key=very-secret", "--storage-option", "access_key_id=user"]
    for out in (tmp_path / "out", "s3://bucket/masks"):
        assert fcnseg("run", "s3://bucket/photos", "--out", out, *options, *tiny.arguments).code == 0
    records = [
        path.read_bytes()
        for root in (tmp_path / "out", bucket_of(tmp_path))
        for path in root.rglob(".fcnseg/**/*")
        if path.is_file()
    ]
    assert len(records) > 5
    assert not [content for content in records if b"very-secret" in content]


def test_a_changed_object_is_done_again(served: FaultyProxy, tmp_path: Path, tiny: TinyModel, fcnseg: Command) -> None:
    assert fcnseg("run", "s3://bucket/photos", "--out", tmp_path / "out", NO_SAMPLE, *tiny.arguments).code == 0
    changed = photograph(bucket_of(tmp_path) / "photos/a/im 0#%20.png", seed=99)
    before = len(served.requests)
    assert fcnseg("run", "s3://bucket/photos", "--out", tmp_path / "out", NO_SAMPLE, *tiny.arguments).code == 0
    assert len([path for method, path in served.requests[before:] if method == "GET" and "/im" in path]) == 1
    fcnseg("run", changed, "--out", tmp_path / "alone", NO_SAMPLE, *tiny.arguments)
    assert contents(tmp_path / "out")["a/im 0#%20.png"] == contents(tmp_path / "alone")["im 0#%20.png"]


every_fault = pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((400, "ExpiredToken"), "have expired"),
        ((403, "AccessDenied"), "permissions"),
        ((404, "NoSuchBucket"), "no such bucket"),
        ((503, "SlowDown"), "does not answer"),
    ],
)


@every_fault
def test_faults_of_the_storage_end_the_run_and_fail_no_image(
    served: FaultyProxy,
    tmp_path: Path,
    tiny: TinyModel,
    fcnseg: Command,
    fault: tuple[int, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fcnseg.io.buckets.MAX_RETRIES", 1)
    out, reads = tmp_path / "out", []

    def fault_of(_method: str, path: str) -> tuple[int, str] | None:
        reads.extend([path] if "/im" in path else [])
        return fault if len(reads) > 5 else None

    served.fault_of = fault_of
    ended = fcnseg("run", "s3://bucket/photos", "--out", out, "-j", 1, NO_SAMPLE, *tiny.arguments)
    assert ended.code == 1
    assert words in ended.error_line
    assert "failed" not in states(out)
    served.fault_of = lambda method, path: None
    before = len(served.requests)
    assert fcnseg("run", "s3://bucket/photos", "--out", out, NO_SAMPLE, *tiny.arguments).code == 0
    assert states(out) == {"done": IMAGES}
    assert len([path for method, path in served.requests[before:] if "/im" in path]) < IMAGES


def test_throttling_is_waited_out(served: FaultyProxy, tmp_path: Path, tiny: TinyModel, fcnseg: Command) -> None:
    served.fault_of = lambda method, path: (503, "SlowDown") if len(served.requests) % 4 == 0 else None
    assert fcnseg("run", "s3://bucket/photos", "--out", tmp_path / "out", NO_SAMPLE, *tiny.arguments).code == 0
    assert states(tmp_path / "out") == {"done": IMAGES}


@pytest.mark.usefixtures("served")
def test_an_object_that_is_gone_is_one_failure(tmp_path: Path, tiny: TinyModel, fcnseg: Command) -> None:
    names = sorted(path.relative_to(bucket_of(tmp_path)) for path in bucket_of(tmp_path).rglob("*.png"))
    urls = tmp_path / "urls.txt"
    urls.write_text("".join(f"s3://bucket/{name}\n" for name in [*names, "photos/none.png"]))
    ended = fcnseg("run", urls, "--out", tmp_path / "out", NO_SAMPLE, *tiny.arguments)
    assert ended.code == 3
    assert states(tmp_path / "out") == {"done": IMAGES, "failed": 1}
    assert "s3://bucket/photos/none.png does not exist" in ended.err


def stored(folder: Path) -> dict[str, bytes]:
    return contents(bucket_of(folder) / "masks")


@every_fault
def test_writes_that_fail_end_the_run_and_it_goes_on_from_there(
    served: FaultyProxy,
    tmp_path: Path,
    tiny: TinyModel,
    fcnseg: Command,
    fault: tuple[int, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fcnseg.io.buckets.MAX_RETRIES", 1)
    run = "run", bucket_of(tmp_path) / "photos", "--out", "s3://bucket/masks", "--shard-images", 4, *tiny.arguments
    written: list[str] = []

    def fault_of(method: str, path: str) -> tuple[int, str] | None:
        is_output = method == "PUT" and "/masks/" in path and "/.fcnseg/" not in path
        written.extend([path] if is_output else [])
        return fault if is_output and len(written) > 6 else None

    served.fault_of = fault_of
    ended = fcnseg(*run)
    assert ended.code == 1
    assert words in ended.error_line
    assert "failed:" not in ended.err
    served.fault_of = lambda method, path: None
    done = fcnseg(*run, "--json")
    assert done.code == 0
    assert json.loads(done.out)["failed"] == 0
    assert json.loads(done.out)["kept"] == 4  # of the shard that had its manifest
    local = tmp_path / "local"
    assert fcnseg("run", bucket_of(tmp_path) / "photos", "--out", local, *tiny.arguments).code == 0
    assert stored(tmp_path) == contents(local)


def test_expired_credentials_are_read_anew_by_the_next_run(
    served: FaultyProxy, tmp_path: Path, tiny: TinyModel, fcnseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy refuses a session token; another one in the environment is taken."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    run = "run", "s3://bucket/photos", "--out", "s3://bucket/masks", *tiny.arguments
    served.refused_token = "old"
    ended = fcnseg(*run)
    assert ended.code == 1
    assert "have expired" in ended.error_line
    monkeypatch.setenv("AWS_SESSION_TOKEN", "new")
    assert fcnseg(*run).code == 0
    assert len(stored(tmp_path)) == IMAGES
