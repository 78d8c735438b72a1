"""Speed and memory of object storage: listing, and runs out of a bucket beside runs out of a folder.

From the project's root: `python -m benchmarks.storage listing|throughput [PHOTOS] [--keys N] [--rounds N]`, PHOTOS
being a folder of photographs (by default the rendered scenes of the examples).

    listing      seconds and memory of listing keys as `fcnseg run` does, from a server that makes the pages up;
                 asked: 1,000,000 in 30 s and 200 MB
    throughput   images/s of runs with the bundled model, from folder to folder, from `rclone serve s3` over the same
                 files to a folder, and from there to there, in turns; asked: within 10 % of the first
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

import fcnseg
from fcnseg.engine.hardware import cpu_name
from fcnseg.io.sources import open_source
from fcnseg.workers.limits import usable_cores
from tests.storage_servers import options_of, rclone_server

EXAMPLES = Path(__file__).parent.parent / "examples" / "street" / "images"
PAGE = 1000
IMAGES = 200
ASKED_SECONDS, ASKED_BYTES = 30, 200_000_000


class Pages(BaseHTTPRequestHandler):
    """Lists `keys` objects, a thousand at a time; the continuation token is the number of the next."""

    protocol_version = "HTTP/1.1"
    keys = 0

    def do_GET(self) -> None:
        """Answer ListObjectsV2."""
        first = int(parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0])
        last = min(first + PAGE, self.keys)
        rows = "".join(
            f"<Contents><Key>photos/{number // 10_000:04}/image_{number:09}.jpg</Key><Size>{48_000 + number}</Size>"
            f'<LastModified>2026-11-29T08:00:00.000Z</LastModified><ETag>"{number:032x}"</ETag></Contents>'
            for number in range(first, last)
        )
        more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < self.keys else ""
        body = (
            f"<ListBucketResult><Name>bucket</Name><IsTruncated>{str(last < self.keys).lower()}</IsTruncated>"
            f"<KeyCount>{last - first}</KeyCount>{more}{rows}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def serve_pages(keys: int, port: Any) -> None:
    """Serve the listing until this process is ended."""
    Pages.keys = keys
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    port.send(server.server_port)
    server.serve_forever()


@contextmanager
def pages_server(keys: int) -> Iterator[str]:
    """Run `serve_pages` in a process of its own; gives the endpoint."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_pages, args=(keys, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()


def listing(keys: int) -> None:
    """List through a source, and measure."""
    with pages_server(keys) as endpoint:
        process = psutil.Process()
        with closing(open_source("s3://bucket/photos", storage_options=options_of(endpoint))) as source:
            before, start, most, count = process.memory_info().rss, time.perf_counter(), 0, 0
            busy = time.process_time()
            for _ in source:
                count += 1
                if count % 50_000 == 0:
                    most = max(most, process.memory_info().rss)
            seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(
        f"{count:,} keys in {seconds:.1f} s, {busy:.1f} s of this process (asked: {ASKED_SECONDS} s for 1,000,000); "
        f"{(most - before) / 1e6:.0f} MB more, {most / 1e6:.0f} MB in all (asked: {ASKED_BYTES / 1e6:.0f})"
    )


def throughput(photos: Path, rounds: int) -> None:
    """Run out of the folder and out of the bucket in turns."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = sorted(path for path in photos.iterdir() if path.suffix in (".png", ".jpg"))
        (place / "served/bucket/photos").mkdir(parents=True)
        for number in range(IMAGES):
            file = files[number % len(files)]
            shutil.copy(file, place / f"served/bucket/photos/{number:05}{file.suffix}")
        with rclone_server(place / "served") as endpoint:
            local, remote = str(place / "served/bucket/photos"), "s3://bucket/photos"
            places = {
                "folder to folder": (local, str(place / "out")),
                "bucket to folder": (remote, str(place / "out")),
                "bucket to bucket": (remote, "s3://bucket/out"),
            }
            seconds: dict[str, list[float]] = {name: [] for name in places}
            for number in range(rounds + 1):  # the first builds the engine and warms up
                for name, (source, out) in places.items():
                    took = run_alone(source, f"{out}-{name.replace(chr(32), chr(45))}-{number}", endpoint)
                    seconds[name] += [took] if number else []
        first = median(seconds["folder to folder"])
        for name, times in seconds.items():
            each = " ".join(f"{IMAGES / value:.1f}" for value in times)
            speed = IMAGES / median(times)
            print(f"{name}: {speed:.2f} images/s ({each}), {first / median(times):.1%} of the first (asked: 90 %)")


def run_alone(source: str, out: str, endpoint: str) -> float:
    """Return the seconds of a run in a process of its own, by its summary."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "user",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    code = "import sys, fcnseg; print(fcnseg.run(sys.argv[1], sys.argv[2]).seconds)"
    done = subprocess.run(
        [sys.executable, "-c", code, source, out], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("listing", "throughput"))
    parser.add_argument("photos", type=Path, nargs="?", default=EXAMPLES)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}  {cpu_name()}, {usable_cores()} cores, fcnseg {fcnseg.__version__}")
    if arguments.what == "listing":
        listing(arguments.keys)
    else:
        throughput(arguments.photos, arguments.rounds)


if __name__ == "__main__":
    main()
