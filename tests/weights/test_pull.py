"""Downloads from a real server on this machine that behaves badly."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import md5, sha256
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fcnseg.errors import DownloadError, WeightsMismatchError
from fcnseg.recipes import Recipe, WeightSource
from fcnseg.weights import download as downloading
from fcnseg.weights.pull import pull
from fcnseg.weights.store import store_folder, stored_path
from tests.caffe_files import write_caffemodel
from tests.weights.conftest import as_caffe, numbers


@dataclass
class Served:
    """What the server has, and how it misbehaves. `drops`: bytes after which each answer in turn breaks off."""

    content: bytes = b""
    etag: str | None = '"one"'
    drops: list[int] = field(default_factory=list)
    status: int = 200
    kind: str = "application/octet-stream"
    length: bool = True
    ranges: bool = True
    requests: list[dict[str, str]] = field(default_factory=list)
    after: Callable[[], None] = lambda: None


@pytest.fixture
def served() -> Iterator[tuple[Served, str]]:
    state = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            state.requests.append({k.lower(): v for k, v in self.headers.items()})
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/weights")
                self.end_headers()
                return
            asked = state.requests[-1]
            begin = 0
            if state.ranges and asked.get("range") and asked.get("if-range") == state.etag:
                begin = int(asked["range"].removeprefix("bytes=").rstrip("-"))
            body = state.content[begin:]
            self.send_response(206 if begin else state.status)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(state.content) - 1}/{len(state.content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            if state.length:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", state.kind)
            self.end_headers()
            self.wfile.write(body[: state.drops.pop(0)] if state.drops else body)
            state.after()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state, f"http://127.0.0.1:{server.server_port}/weights"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def small(recipe: Callable[..., Recipe], tmp_path: Path, served: tuple[Served, str]) -> Recipe:
    """A recipe whose weights the server has."""
    made = recipe(width=0.03, fc_width=2, stride=32)
    content = write_caffemodel(tmp_path / "s", as_caffe(numbers(made))).read_bytes()
    served[0].content = content
    source = WeightSource("small.caffemodel", served[1], None, md5(content).hexdigest(), sha256(content).hexdigest())
    return replace(made, weights=(source,))


def leftovers() -> list[str]:
    return sorted(p.name for p in (store_folder() / "downloads").iterdir())


def test_a_pull_fills_the_store(small: Recipe) -> None:
    heard: list[tuple[int, int | None]] = []
    report = pull(small, on_bytes=lambda here, total: heard.append((here, total)))
    assert report.out == stored_path("small")
    assert (load_file(report.out)["conv1_1.weight"] == numbers(small)["conv1_1.weight"]).all()
    assert heard[-1][0] == heard[-1][1]
    assert leftovers() == []


def test_a_redirect_is_followed(small: Recipe, served: tuple[Served, str]) -> None:
    pull(small, served[1].replace("weights", "moved"))


def test_a_dropped_connection_goes_on_where_it_stopped(small: Recipe, served: tuple[Served, str]) -> None:
    state = served[0]
    state.drops = [500, 300, 200, 100, 100, 50]
    pull(small)
    assert [r.get("range") for r in state.requests[:4]] == [None, "bytes=500-", "bytes=800-", "bytes=1000-"]


def test_a_later_pull_goes_on_too(small: Recipe, served: tuple[Served, str]) -> None:
    state = served[0]
    state.drops = [700] + [0] * downloading.ATTEMPTS
    with pytest.raises(DownloadError, match=r"small\.caffemodel at .* and run `fcnseg weights import"):
        pull(small)
    assert leftovers() == ["small.caffemodel.part", "small.caffemodel.part.json"]
    pull(small)
    assert state.requests[-1]["range"] == "bytes=700-"
    assert leftovers() == []


@pytest.mark.parametrize("tag", ['"two"', 'W/"weak"', None])
def test_a_changed_file_starts_over(tag: str | None, small: Recipe, served: tuple[Served, str]) -> None:
    state = served[0]
    good = state.content
    state.content, state.drops = bytes(len(good)), [900]

    def change() -> None:
        state.content, state.etag = good, tag

    state.after = change
    pull(small)


def test_a_server_without_ranges_starts_over(small: Recipe, served: tuple[Served, str]) -> None:
    served[0].drops, served[0].ranges = [900], False
    pull(small)


def test_a_server_that_names_no_length(small: Recipe, served: tuple[Served, str]) -> None:
    served[0].length = False
    pull(small)


def test_a_file_cut_without_notice_is_fetched_again(small: Recipe, served: tuple[Served, str]) -> None:
    served[0].length, served[0].drops = False, [900]
    for source in (small.weights[0], replace(small.weights[0], md5=None, sha256=None)):
        served[0].drops = [900]
        with pytest.raises(DownloadError, match=r"put small\.caffemodel at"):
            pull(replace(small, weights=(source,)))
    pull(small)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": 404}, "404"),
        ({"status": 503}, "503"),
        ({"kind": "text/html"}, "web page"),
        ({"content": b"<html>log in</html>"}, "expected"),
    ],
)
def test_other_answers_say_where_to_put_the_file(
    change: dict[str, object], says: str, small: Recipe, served: tuple[Served, str]
) -> None:
    for key, value in change.items():
        setattr(served[0], key, value)
    with pytest.raises(DownloadError, match=says) as caught:
        pull(small)
    assert "put small.caffemodel at" in str(caught.value)
    assert "fcnseg weights import" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not stored_path("small").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "ftp://x/y", "no address", "http://[/"])
def test_no_connection_is_one_line(url: str, small: Recipe) -> None:
    with pytest.raises(DownloadError, match=r"put small\.caffemodel at"):
        pull(small, url)


def test_a_full_disk_is_one_line(small: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloading.os, "fsync", full)
    with pytest.raises(DownloadError, match="No space left"):
        pull(small)


def test_a_file_put_by_hand_is_used(small: Recipe, served: tuple[Served, str]) -> None:
    place = store_folder() / "downloads" / "small.caffemodel"
    place.parent.mkdir(parents=True)
    place.write_bytes(served[0].content)
    pull(small)
    assert not served[0].requests


def test_weights_of_another_model_do_not_reach_the_store(small: Recipe, recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(WeightsMismatchError):
        pull(replace(recipe(name="other"), weights=small.weights))
    assert not stored_path("other").exists()


def test_a_model_without_released_weights_says_so(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(DownloadError, match="bring your own"):
        pull(recipe())
