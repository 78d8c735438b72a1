"""Runs in shards, measured: `python -m benchmarks.cluster {driver,curve,speed,kills} [NUMBER]`.

driver N: memory and time of a driver that plans N made-up inputs (10^6), and of `status` over as many.
curve N: the same records without rows for 10^4 to N images (10^8): what a resumed driver and `status` have to read.
speed N: N images (400) by a fake engine of 20 ms an image, in one process, and on Ray with one worker and with two.
kills N: N kills (20) of workers, nodes and drivers at random moments of runs that go on, each run checked to the last
  checksum.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from fcnseg.engine.hardware import cpu_name
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.running.sharded.known import ListingDigest, digest
from fcnseg.running.sharded.manifest import ShardLedger, finished, tallies
from fcnseg.running.sharded.places import Shard
from fcnseg.running.sharded.plan import SHARD_IMAGES, Generation, Planned, PlanReader, PlanWriter, commit
from fcnseg.running.status import read_status
from fcnseg.types import RecordedOutput, Reference, Settled

MIB = 1 << 20


def peak_mib() -> float:
    """The most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the time of the block, and the memory after it."""
    start = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - start:.1f} s, peak {peak_mib():.0f} MiB", flush=True)


def key_of(number: int) -> str:
    """A key as cameras make them."""
    return f"camera-{number % 97:02}/2026/{number // 1000:07}/frame-{number:010}.jpg"


def planned_inputs(count: int) -> Iterator[Planned]:
    """Inputs as a bucket lists them: keys of 50 characters, fingerprints of 40."""
    for number in range(count):
        key, fingerprint = key_of(number), f"{48_000 + number % 9000}-{number * 2654435761 % 2**128:032x}"
        yield Planned(Reference(key, key[:-4], fingerprint, f"s3://bucket/photos/{key}"), fingerprint)


def plan(bucket: Bucket, count: int) -> Generation:
    """Plan made-up inputs as a run does."""
    writer, listing = PlanWriter(bucket), ListingDigest()
    for planned in planned_inputs(count):
        listing.add(digest(planned.listed.key, planned.fingerprint))
        writer.add(planned)
    generation = Generation(1, count, str(listing), writer.finish(), 0, 0, SHARD_IMAGES, writer.folder)
    assert commit(bucket, generation)
    return generation


def publish_all(bucket: Bucket, generation: Generation) -> None:
    """Put the manifests of all shards, with the rows that workers write."""
    reader = PlanReader(bucket, generation)
    for number in range(generation.shards):
        ledger = ShardLedger(bucket.url, Shard(1, number))
        ledger.settle(
            Settled(
                listed.key,
                fingerprint,
                (RecordedOutput(f"{listed.key[:-4]}.png", 9000 + index, f"{hash(listed.key) % 2**128:032x}", 0),),
            )
            for index, (listed, fingerprint) in enumerate(reader.shard(number))
        )
        assert ledger.publish(bucket)


def size_of(bucket: Bucket, prefix: str) -> int:
    """The bytes of the objects below a prefix."""
    return sum(found.size for found in bucket.list(prefix))


def driver(count: int, folder: Path) -> None:
    """Plan, then look from another process, as a resumed run and `status` do."""
    bucket = open_store(folder)
    print(f"{count:,} images; before: peak {peak_mib():.0f} MiB")
    with timed("planned"):
        generation = plan(bucket, count)
    print(f"plan: {size_of(bucket, '.fcnseg/plan') / count:.1f} bytes an image", flush=True)
    with timed(f"{generation.shards:,} manifests made"):
        publish_all(bucket, generation)
    print(f"manifests: {size_of(bucket, '.fcnseg/manifests') / count:.1f} bytes an image", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.cluster", "look", str(folder)], check=True)


def look(folder: Path) -> None:
    """Time `status` in a process of its own."""
    with timed("status"):
        (part,) = read_status(f"file://{folder}").parts
    print(f"{part.done:,} of {part.inputs:,} are done")


def curve(most: int, folder: Path) -> None:
    """Time what grows with the number of shards alone: manifests without rows."""
    count, images = 0, 10_000
    bucket = open_store(folder)
    while images <= most:
        shards = -(-images // SHARD_IMAGES)
        for number in range(count, shards):
            ShardLedger(bucket.url, Shard(1, number)).publish(bucket)
        count = max(count, shards)
        start = time.perf_counter()
        done = finished(bucket, 1)
        listed = time.perf_counter()
        tallies(bucket, 1, done)
        read = time.perf_counter()
        print(
            f"{images:>13,} images: {len(done):>7,} shards, listed in {listed - start:6.2f} s, "
            f"read in {read - listed:6.1f} s, peak {peak_mib():.0f} MiB",
            flush=True,
        )
        images *= 10


def speed(images: int, folder: Path) -> None:
    """Compare one process, one worker and two, from the start of the first shard to the end of the last."""
    from tests.running.sharded.cluster import Driver, started_cluster

    photos = photographs(folder / "photos", images)
    values = {"source": str(photos), "shard_images": 16}
    print(f"one process: {_rate(Driver(out=f'file://{folder}/one', **values)):.1f} images/s", flush=True)
    with started_cluster() as cluster:
        for workers in (1, 2):
            cluster.want(workers)
            values |= {"on": "ray", "ray_address": cluster.address}
            run = Driver(out=f"file://{folder}/ray-{workers}", **values)
            print(f"Ray, {workers} worker(s): {_rate(run):.1f} images/s", flush=True)


def _rate(run: object) -> float:
    """Images a second between the ends of the first and the last shard."""
    times: list[tuple[float, int]] = []

    def note(event: dict[str, object]) -> bool:
        if event["event"] == "shards":
            times.append((time.perf_counter(), int(str(event["done"]))))
        return event["event"] == "end"

    run.until(note)  # type: ignore[attr-defined]
    (start, first), (end, last) = next(t for t in times if t[1] > 1), times[-1]
    return (last - first) * 16 / (end - start)


def photographs(folder: Path, images: int) -> Path:
    """Make small photographs."""
    from tests.conftest import photograph

    for number in range(images):
        photograph(folder / f"{number % 7}" / f"{number:05}.png", width=30 + number % 5, height=20, seed=number)
    return folder


def kills(wanted: int, folder: Path) -> None:
    """Kill workers, nodes and drivers of runs of 96 images until there were so many."""
    from tests.running.sharded.cluster import Driver, started_cluster
    from tests.running.sharded.conftest import check_exact

    chance = random.Random(0)
    tally = {"worker": 0, "node": 0, "driver": 0}
    photos = photographs(folder / "photos", 96)
    with started_cluster() as cluster:
        run_number = 0
        while sum(tally.values()) < wanted:
            cluster.want(2)
            out = f"file://{folder}/{run_number}"
            values = {"source": str(photos), "out": out, "shard_images": 4, "on": "ray", "ray_address": cluster.address}
            values["image_seconds"] = 0.2
            run = Driver(**values)
            shards = 0
            for _ in range(4):
                shards += chance.randrange(1, 6)
                run.until_done(shards)
                kind = chance.choice(["worker", "worker", "node", "driver"])
                tally[kind] += 1
                if kind == "driver":
                    run.kill()
                    run = Driver(**values)
                elif kind == "node":
                    cluster.kill_node()
                    cluster.want(2)
                else:
                    cluster.kill_worker()
            end = run.end()
            assert end["done"] + end["kept"] == 96, end
            check_exact(open_store(out), photos)
            run_number += 1
            print(f"run {run_number}: whole and exact; killed so far: {tally}", flush=True)


def main() -> None:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["driver", "curve", "speed", "kills", "look"])
    parser.add_argument("number", nargs="?")
    arguments = parser.parse_args()
    if arguments.what == "look":
        look(Path(arguments.number))
        return
    print(f"{date.today()}  {cpu_name()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"command: python -m benchmarks.cluster {' '.join(sys.argv[1:])}")
    folder = Path(tempfile.mkdtemp(prefix="fcnseg-cluster-"))
    number = {"driver": 10**6, "curve": 10**8, "speed": 400, "kills": 20}[arguments.what]
    work = {"driver": driver, "curve": curve, "speed": speed, "kills": kills}[arguments.what]
    try:
        work(int(arguments.number or number), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
