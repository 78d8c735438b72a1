"""Downloads from a real server on this machine that behaves badly."""

from __future__ import annotations

import contextlib
import http.server
import multiprocessing
import shutil
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import md5, sha256
from pathlib import Path
from urllib.parse import quote

import pytest
from safetensors.numpy import load_file

from fcnseg.errors import DownloadError, WeightsMismatchError
from fcnseg.recipes import Recipe, WeightSource
from fcnseg.weights import download as downloading
from fcnseg.weights import pace
from fcnseg.weights.addresses import masked, without_secrets
from fcnseg.weights.pins import pin_file
from fcnseg.weights.pull import pull
from fcnseg.weights.store import store_folder, stored_path
from tests.caffe_files import write_caffemodel
from tests.conftest import Outcome, mounted
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
    encoding: str | None = None
    if_range: bool = True
    endless: bool = False
    sent: int = 0
    moved_to: str = "/weights"
    drip_seconds: float = 0.0
    """The time between two bytes, of the header too if `drip_header`."""
    drip_header: bool = False


@pytest.fixture
def served() -> Iterator[tuple[Served, str]]:
    with serving() as served:
        yield served


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[tuple[Served, str]]:
    state = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def drip(self, content: bytes) -> None:
            with contextlib.suppress(OSError):
                for byte in content.replace(b"\0", b"a") if state.drip_header else content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(state.drip_seconds)

        def do_GET(self) -> None:
            state.requests.append({k.lower(): v for k, v in self.headers.items()})
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", state.moved_to)
                self.end_headers()
                return
            if state.drip_header:
                self.drip(b"HTTP/1.1 200 OK\r\nX-Comment: " + bytes(10_000))
            asked = state.requests[-1]
            begin = 0
            if state.ranges and asked.get("range") and (asked.get("if-range") == state.etag or not state.if_range):
                begin = int(asked["range"].removeprefix("bytes=").rstrip("-"))
            body = state.content[begin:]
            self.send_response(206 if begin else state.status)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(state.content) - 1}/{len(state.content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            if state.length and not state.endless:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", state.kind)
            if state.encoding:
                self.send_header("Content-Encoding", state.encoding)
            self.end_headers()
            with contextlib.suppress(OSError):
                while state.endless:
                    state.sent += self.wfile.write(body)
            if state.drip_seconds:
                self.drip(body)
                return
            self.wfile.write(body[: state.drops.pop(0)] if state.drops else body)
            state.after()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state, f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/weights"
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


def unhashed(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe as the released ones are: without hashes."""
    return replace(recipe, weights=(replace(recipe.weights[0], **{"md5": None, "sha256": None, **changes}),))  # type: ignore[arg-type]


def test_a_file_of_unknown_hash_is_said_to_be_so_and_pinned(small: Recipe, served: tuple[Served, str]) -> None:
    notes: list[str] = []
    recipe, first = unhashed(small), sha256(served[0].content).hexdigest()
    report = pull(recipe, on_note=notes.append)
    assert report.sha256 == first
    assert "http is not encrypted" in notes[0]
    assert "pinned" in notes[1]
    assert pin_file("small", "small.caffemodel").read_text() == f"{first}  small.caffemodel\n"

    notes.clear()
    pull(recipe, on_note=notes.append)  # the same file again
    assert "not encrypted" not in "".join(notes)

    served[0].content = b"\n\x01x" + served[0].content
    second = sha256(served[0].content).hexdigest()
    before = stored_path("small").read_bytes()
    for _ in range(2):
        with pytest.raises(DownloadError) as caught:
            pull(recipe)
        assert first in str(caught.value)
        assert second in str(caught.value)
        assert str(pin_file("small", "small.caffemodel")) in str(caught.value)
    assert stored_path("small").read_bytes() == before


def test_a_mirror_must_bring_the_pinned_file(small: Recipe, served: tuple[Served, str]) -> None:
    recipe = unhashed(small)
    pull(recipe)
    served[0].content += b"\0"
    with pytest.raises(DownloadError, match="an earlier pull brought"):
        pull(recipe, served[1] + "?mirror")


def test_a_file_put_by_hand_is_pinned_too(small: Recipe, served: tuple[Served, str]) -> None:
    place = store_folder() / "downloads" / "small.caffemodel"
    place.parent.mkdir(parents=True)
    place.write_bytes(served[0].content)
    pull(unhashed(small))
    served[0].content += b"\0"
    with pytest.raises(DownloadError, match="an earlier pull brought"):
        pull(unhashed(small))


@pytest.mark.parametrize("damage", [b"", b"x", b"\xff", b"0" * 63])
def test_a_damaged_pin_trusts_nothing(damage: bytes, small: Recipe) -> None:
    pull(unhashed(small))
    pin_file("small", "small.caffemodel").write_bytes(damage)
    with pytest.raises(DownloadError, match=r"delete it to trust the next file"):
        pull(unhashed(small))


def test_the_hash_of_a_recipe_counts_more_than_a_pin(small: Recipe) -> None:
    pull(unhashed(small))
    pin_file("small", "small.caffemodel").write_text("0" * 64)
    pull(small)
    pull(replace(small, weights=(replace(small.weights[0], sha256=(small.weights[0].sha256 or "").upper()),)))


@pytest.mark.parametrize("size_mib", [1, None])
def test_a_body_without_end_is_stopped(size_mib: int | None, small: Recipe, served: tuple[Served, str]) -> None:
    served[0].endless = True
    with pytest.raises(DownloadError, match="sends more than"):
        pull(unhashed(small, size_mib=size_mib))
    assert leftovers() == []
    assert served[0].sent < 40 * 2**20


def test_a_size_beyond_these_weights_is_refused_before_a_byte(small: Recipe, served: tuple[Served, str]) -> None:
    served[0].content += bytes(20 * 2**20)
    received: list[int] = []
    with pytest.raises(DownloadError, match="cannot have more than"):
        pull(unhashed(small, size_mib=1), on_bytes=lambda here, total: received.append(here))
    assert (leftovers(), received) == ([], [])


def test_a_disk_without_room_is_said_before_a_byte(small: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)  # type: ignore[attr-defined]
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"more bytes in .*, where 1,000 are free; make room"):
        pull(small)
    assert leftovers() == []


@pytest.mark.parametrize("free", [0, 4 * 2**20])
def test_a_body_without_end_does_not_fill_a_small_disk(
    free: int, small: Recipe, served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served[0].endless = True
    with mounted(store_folder().parent.parent / "disk", "size=24m") as disk:
        monkeypatch.setenv("FCNSEG_HOME", str(disk))
        (disk / "other").write_bytes(bytes(20 * 2**20 - free))
        with pytest.raises(DownloadError):
            pull(unhashed(small))
        assert leftovers() == []


@pytest.mark.parametrize("drops", [[], [1] * 1000])
def test_a_server_that_drips_is_left(
    drops: list[int], small: Recipe, served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served[0].drops = drops
    served[0].drip_seconds = 0.0 if drops else 0.01
    with monkeypatch.context() as patch:
        patch.setattr(pace, "PACE_SECONDS", 0.2)
        patch.setattr(pace, "LEAST_BYTES_A_SECOND", 10**9 if drops else 1024)
        with pytest.raises(DownloadError, match=r"sent [\d,]+ bytes in 0 s, .* a later pull goes on; put small"):
            pull(small)
    assert leftovers() == ["small.caffemodel.part", "small.caffemodel.part.json"]
    served[0].drops, served[0].drip_seconds = [], 0.0
    pull(small)
    assert served[0].requests[-1]["range"].startswith("bytes=")


def test_an_answer_that_drips_is_left(
    small: Recipe, served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "ANSWER_SECONDS", 0.2)
    served[0].drip_seconds, served[0].drip_header = 0.01, True
    with pytest.raises(DownloadError, match=r"has not answered within 0 s; put small"):
        pull(small)


SECRETS = ("name-of-user", "s3cret", "t0ken", "signature", "fragm3nt", "f0lder-of-token")


@pytest.mark.parametrize(
    "change", [{}, {"status": 403}, {"kind": "text/html"}, {"drops": [0] * 9}, {"encoding": "gzip"}]
)
def test_secrets_of_a_url_are_shown_nowhere(
    change: dict[str, object],
    small: Recipe,
    served: tuple[Served, str],
    fcnseg: Callable[..., Outcome],
    tmp_path: Path,
) -> None:
    for key, value in change.items():
        setattr(served[0], key, value)
    recipe = tmp_path / "open.toml"
    weights = '[[weights]]\nfile = "w"\nurl = "http://x"\n'
    recipe.write_text(small.path.read_text().replace("[[streams]]", f"{weights}[[streams]]"))
    user, password, token, signature, fragment, folder = SECRETS
    url = served[1].replace("//", f"//{user}:{password}@").replace("/weights", f"/{folder}/weights")
    url += f"?token={token}&{signature}#{fragment}"
    done = fcnseg("weights", "pull", recipe, "--url", url)
    assert (done.code == 0) == (not change)
    shown = ""
    if change:
        served[0].drops = [0] * 9 if "drops" in change else []
        with pytest.raises(DownloadError) as caught:
            pull(small, url)
        shown = "".join(traceback.format_exception(caught.value))
    kept = "".join(path.read_text(errors="replace") for path in store_folder().rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret not in done.out + done.err + shown + kept
    assert "authorization" in served[0].requests[0]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:p@host:8/a/b?x=1&y=2&z#f", "https://***@host:8/***/b?x=***&y=***&***"),
        ("http://host/a", "http://host/a"),
        ("http://host//a", "http://host//a"),
        ("http://host/t0ken/of/a.caffemodel", "http://host/***/a.caffemodel"),
        ("http://host/t0ken/", "http://host/***/"),
        ("http://u@host/", "http://***@host/"),
        ("http://u:pa/ss@host/", "the address"),
        ("u:p@host/x", "the address"),
        ("ftp://u:p@host/x", "the address"),
        ("http://[/", "the address"),
        ("http://host/\x1b[2J", "http://host/\\x1b[2J"),
    ],
)
def test_masked(url: str, expected: str) -> None:
    assert masked(url) == expected


def test_a_message_of_a_library_is_masked_too() -> None:
    url = "http://us%20er:pa%24s@host/?t=a%2Fb&sig"
    for secret in ("us%20er", "us er", "pa%24s", "pa$s", "a%2Fb", "a/b", "sig"):
        assert secret not in without_secrets(f"<{secret}> <{quote(secret)}>", url)


def test_the_record_of_a_part_is_of_this_part(
    small: Recipe, served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has a new file, and the process dies between the record and the first byte."""
    state = served[0]
    state.drops = [900] + [0] * downloading.ATTEMPTS
    with pytest.raises(DownloadError):
        pull(small)
    old, state.content, state.etag, state.drops = state.content, state.content[::-1], '"two"', []
    with monkeypatch.context() as patch:
        patch.setattr(downloading, "_append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pull(small)
    part = store_folder() / "downloads" / "small.caffemodel.part"
    assert (part.read_bytes(), "two" in part.with_name(f"{part.name}.json").read_text()) in [(b"", True), (b"", False)]
    state.content, state.etag = old, '"three"'
    pull(small)


def test_a_server_that_sends_the_rest_of_another_file(small: Recipe, served: tuple[Served, str]) -> None:
    """It does not know If-Range; the ETag of its answer tells."""
    state = served[0]
    good, state.content, state.if_range, state.drops = state.content, bytes(len(state.content)), False, [900]

    def change() -> None:
        state.content, state.etag = good, '"two"'

    state.after = change
    pull(unhashed(small))


def test_a_rest_of_another_length_is_of_another_file(small: Recipe, served: tuple[Served, str]) -> None:
    state = served[0]
    good, state.content, state.drops = state.content, bytes(len(state.content) - 50), [900]

    def change() -> None:
        state.content = good

    state.after = change
    pull(unhashed(small))


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "gzip, identity"])
def test_a_compressed_answer_is_refused(encoding: str, small: Recipe, served: tuple[Served, str]) -> None:
    served[0].encoding = encoding
    with pytest.raises(DownloadError, match="compressed"):
        pull(small)


def test_a_web_page_in_between_leaves_the_part(small: Recipe, served: tuple[Served, str]) -> None:
    state = served[0]
    state.drops = [900]

    def change() -> None:
        state.kind = "text/html"

    state.after = change
    with pytest.raises(DownloadError, match="web page"):
        pull(small)
    assert "small.caffemodel.part" in leftovers()
    state.kind, state.after = "application/octet-stream", lambda: None
    pull(small)
    assert state.requests[-1]["range"] == "bytes=900-"


def hold(home: str, ready: object, end: object) -> None:
    import os

    from fcnseg.weights import pull as pulling

    os.environ["FCNSEG_HOME"] = home
    with pulling._alone("small.caffemodel"):
        ready.set()  # type: ignore[attr-defined]
        end.wait(60)  # type: ignore[attr-defined]


def test_a_second_pull_is_refused_and_leaves_the_first_alone(small: Recipe, served: tuple[Served, str]) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, end = spawn.Event(), spawn.Event()
    first = spawn.Process(target=hold, args=(str(store_folder().parent), ready, end))
    first.start()
    assert ready.wait(60)
    part = store_folder() / "downloads" / "small.caffemodel.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"of the first")
    with pytest.raises(DownloadError, match=r"another process is pulling small\.caffemodel; wait until it ends"):
        pull(small)
    assert (part.read_bytes(), served[0].requests) == (b"of the first", [])
    first.kill()
    first.join()
    pull(small)
    assert not list((store_folder() / "locks").iterdir())


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, str]]:
    """A server that speaks TLS, and is trusted."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    if not shutil.which("openssl"):
        pytest.skip("needs openssl for a certificate")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files], check=True, capture_output=True
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as served:
        yield served


def test_no_redirect_leads_from_https_to_http(
    small: Recipe, served: tuple[Served, str], secure: tuple[Served, str]
) -> None:
    secure[0].content = served[0].content
    pull(small, secure[1])
    pull(small, secure[1].replace("weights", "moved"))
    secure[0].moved_to = served[1]
    for url in (secure[1].replace("weights", "moved"), served[1].replace("weights", "moved")):
        served[0].moved_to = secure[1].replace("weights", "moved")  # http, https, http
        served[0].requests.clear()
        with pytest.raises(DownloadError, match="redirects from https to an address that is not encrypted"):
            pull(small, url)
        assert len(served[0].requests) == (url.startswith("http:"))
    served[0].moved_to = secure[1]
    pull(small, served[1].replace("weights", "moved"))


@pytest.mark.parametrize("place", ["/moved", "ftp://x/", "http://[/", "file:///etc/passwd", "//"])
def test_redirects_that_lead_nowhere(place: str, small: Recipe, served: tuple[Served, str]) -> None:
    served[0].moved_to = place
    with pytest.raises(DownloadError, match=r"put small\.caffemodel at"):
        pull(small, served[1].replace("weights", "moved"))


@pytest.mark.parametrize("url", ["no address", "http://[/", "ftp://u:pw@x/y", "http://u:p/w@x/y", "\x00", ""])
def test_what_is_no_address_and_no_released_file(url: str, recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(DownloadError, match="no http:// or https:// URL") as caught:
        pull(recipe(), url)
    assert "pw" not in str(caught.value)
    assert "p/w" not in str(caught.value)
