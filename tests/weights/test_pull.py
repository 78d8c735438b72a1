"""Downloads against a real server that misbehaves in the ways servers do."""

import hashlib
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fcnseg.errors import DownloadError, WeightsMismatchError
from fcnseg.recipes import Recipe, WeightSource, find_recipe
from fcnseg.weights.pull import check_hash, download, pull
from fcnseg.weights.store import available, stored_path
from tests.caffe_files import write_caffemodel
from tests.conftest import Outcome
from tests.weights.nets import blobs, make_recipe, random_tensors


class Server(ThreadingHTTPServer):
    """Serves `content` at /file; drops the connection after `drop_after` bytes `drops` times."""

    content = b""
    etag = '"1"'
    drops = 0
    drop_after = 0
    status = 200
    kind = "application/octet-stream"

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.caffemodel"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        start = 0
        if wanted and self.headers.get("If-Range") == server.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
        body = server.content[start:]
        self.send_response(server.status if server.status != 200 else 206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", server.kind)
        self.send_header("ETag", server.etag)
        self.end_headers()
        if server.drops:
            server.drops -= 1
            body = body[: server.drop_after]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path / "home"))
    return make_recipe(tmp_path, extra='[[weights]]\nfile = "file.caffemodel"\nurl = "http://127.0.0.1:9/"')


def weights_of(recipe: Recipe, folder: Path) -> bytes:
    return write_caffemodel(folder / "served", blobs(random_tensors(recipe))).read_bytes()


def test_a_dropped_connection_is_taken_up_where_it_broke(server: Server, recipe: Recipe, tmp_path: Path) -> None:
    server.content = weights_of(recipe, tmp_path)
    server.drops, server.drop_after = 2, 10_000
    heard: list[tuple[int, int | None]] = []
    report = pull(recipe, server.url, lambda here, total: heard.append((here, total)))
    assert server.ranges == [None, "bytes=10000-", "bytes=20000-"]
    assert heard[-1] == (len(server.content), len(server.content))
    assert report.out == stored_path("net")
    assert available(recipe) == "stored"
    assert sorted(p.name for p in (tmp_path / "home").rglob("*") if p.is_file()) == ["net.safetensors"]


def test_a_later_call_goes_on_and_a_changed_file_starts_over(server: Server, tmp_path: Path) -> None:
    server.content, server.drops, server.drop_after = bytes(range(256)) * 100, 99, 1000
    target = tmp_path / "t"
    with pytest.raises(DownloadError, match=r"cannot be fetched .*; by hand"):
        download(server.url, target, "by hand")
    assert (tmp_path / "t.part").stat().st_size == 5000
    server.drops = 0
    download(server.url, target, "by hand")
    assert server.ranges[-1] == "bytes=5000-"
    assert target.read_bytes() == server.content
    target.unlink()
    server.drops = 99
    with pytest.raises(DownloadError):
        download(server.url, target, "by hand")
    server.drops, server.etag, server.content = 0, '"2"', b"new" * 5000
    download(server.url, target, "by hand")
    assert target.read_bytes() == server.content
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_refusals_say_where_to_put_the_file(server: Server, recipe: Recipe, tmp_path: Path) -> None:
    server.content = b"<html>moved</html>"
    server.status = 404
    target = tmp_path / "home/weights/downloads/file.caffemodel"
    with pytest.raises(DownloadError, match="answers 404") as caught:
        pull(recipe, server.url)
    assert f"put file.caffemodel at {target} by hand" in str(caught.value)
    server.status, server.kind = 200, "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="web page"):
        pull(recipe, server.url)
    with pytest.raises(DownloadError, match="by hand"):
        pull(recipe)  # nothing listens there
    with pytest.raises(DownloadError, match="no address"):
        pull(recipe, "not an address")
    assert not stored_path("net").exists()


def test_a_file_put_there_by_hand_is_used_without_network(recipe: Recipe, tmp_path: Path) -> None:
    target = tmp_path / "home/weights/downloads/file.caffemodel"
    target.parent.mkdir(parents=True)
    target.write_bytes(weights_of(recipe, tmp_path))
    assert pull(recipe).out.is_file()


def test_a_file_of_another_model_is_not_imported(server: Server, recipe: Recipe, tmp_path: Path) -> None:
    server.content = weights_of(make_recipe(tmp_path, "other", stride=32), tmp_path)
    with pytest.raises(WeightsMismatchError):
        pull(recipe, server.url)
    assert not stored_path("net").exists()


def test_a_wrong_hash_is_refused_and_a_right_one_passes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    check_hash(path, WeightSource("f", sha256=hashlib.sha256(b"abc").hexdigest()), "")
    with pytest.raises(DownloadError, match="wrong md5"):
        check_hash(path, WeightSource("f", md5="0" * 32), "")
    assert not path.exists()


def test_models_without_released_weights_say_so() -> None:
    with pytest.raises(DownloadError, match="no weights of voc-fcn-googlenet were released"):
        pull(find_recipe("voc-fcn-googlenet"))


def test_the_commands(fcnseg: Callable[..., Outcome], server: Server, recipe: Recipe, tmp_path: Path) -> None:
    server.content = weights_of(recipe, tmp_path)
    done = fcnseg("weights", "pull", recipe.path, "--url", server.url)
    assert (done.code, stored_path("net").is_file()) == (0, True)
    inspected = fcnseg("weights", "inspect", tmp_path / "served")
    assert "conv1_1.weight" in inspected.out
    assert "fits: no shipped recipe" in inspected.out
    assert '"format": "caffe"' in fcnseg("weights", "inspect", tmp_path / "served", "--json").out
    assert fcnseg("weights", "list").code == 0
    out = tmp_path / "x.safetensors"
    assert fcnseg("weights", "import", tmp_path / "served", "--model", recipe.path, "--out", out).code == 0
    bad = fcnseg("weights", "import", tmp_path / "served", "--model", "voc-fcn8s", "--out", tmp_path / "y")
    assert bad.code == 2
    assert "  misshapen: conv1_1.weight" in bad.err
    assert bad.error_line
    assert not (tmp_path / "y").exists()
