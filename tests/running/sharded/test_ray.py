"""Runs on a real Ray cluster whose workers, nodes and drivers are killed. One cluster, and so one test."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ray")

import fcnseg
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.running.sharded.manifest import finished
from fcnseg.running.status import read_status
from tests.conftest import photograph
from tests.imports import ROOT
from tests.running.sharded.cluster import ClusterUnderTest, Driver, started_cluster
from tests.running.sharded.conftest import check_exact
from tests.running.sharded.ray_driver import POISONOUS_WIDTH
from tests.storage_servers import options_of

IMAGES, SHARD_IMAGES = 48, 8
SHARDS = IMAGES // SHARD_IMAGES


class Scene:
    """Photographs, an output of their own, and drivers on the cluster."""

    def __init__(self, cluster: ClusterUnderTest, folder: Path, out: str, storage_options: dict[str, str]) -> None:
        self.cluster, self.photos, self.out, self.storage_options = cluster, folder / "photos", out, storage_options
        self.drivers: list[Driver] = []
        for i in range(IMAGES):
            photograph(self.photos / f"{i % 3}" / f"{i:03}.png", width=30 + i % 3, height=20, seed=i)

    @property
    def bucket(self) -> Bucket:
        return open_store(self.out, self.storage_options)

    def drive(self, **changes: object) -> Driver:
        values = {"on": "ray", "ray_address": self.cluster.address, "shard_images": SHARD_IMAGES}
        place = {"source": str(self.photos), "out": self.out, "storage_options": self.storage_options}
        self.drivers.append(Driver(**{**place, **values, **changes}))
        return self.drivers[-1]

    def end(self) -> None:
        """Kill drivers that still run: a scene that failed must not keep the workers of the next."""
        for driver in self.drivers:
            driver.kill()

    def check(self, failed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        check_exact(self.bucket, self.photos, failed)


def workers_die(scene: Scene) -> None:
    driver = scene.drive()
    for done in (1, 3):
        driver.until_done(done)
        scene.cluster.kill_worker()
    end = driver.end()
    assert (end["done"], end["failed"], end["total"]) == (IMAGES, 0, IMAGES)
    assert sum("was lost" in note for note in driver.notes) == 2
    told = sum(event["images"] for event in driver.events if event["event"] == "progress")
    assert told == IMAGES, "what a lost worker had done is taken back"
    assert [event["lost"] for event in driver.events if event["event"] == "shards"][-1] == 2
    assert [event for event in driver.events if event["event"] == "stray"] == [], "standard output is for results"


def a_node_dies_and_a_spare_takes_over(scene: Scene) -> None:
    scene.cluster.want(2)
    driver = scene.drive()
    driver.until_done(1)
    scene.cluster.kill_node()
    scene.cluster.want(2)
    assert driver.end()["done"] == IMAGES


def a_node_dies_and_the_other_goes_on(scene: Scene) -> None:
    scene.cluster.want(2)
    driver = scene.drive()
    driver.until(lambda event: event["event"] == "shards" and event["alive"] == 2)
    scene.cluster.kill_node()
    assert driver.end()["done"] == IMAGES
    scene.cluster.want(2)


def the_driver_dies(scene: Scene) -> None:
    driver = scene.drive()
    driver.until_done(2)
    driver.kill()
    scene.cluster.kills += 1
    before = len(finished(scene.bucket, 1))
    photograph(scene.photos / "0/000.png", width=35, height=20, seed=99)  # and meanwhile an input changes
    again = scene.drive()
    end = again.end()
    assert end["done"] + end["kept"] == IMAGES
    assert end["kept"] >= (before - 1) * SHARD_IMAGES - 1


def an_image_ends_its_process(scene: Scene) -> None:
    photograph(scene.photos / "1/poison.png", width=POISONOUS_WIDTH, height=20)
    driver = scene.drive()
    end = driver.end()
    assert (end["done"], end["failed"], driver.process.returncode) == (IMAGES, 1, 3)
    assert [(f["key"], f["reason"]) for f in end["failures"]] == [("1/poison.png", "ended its process")]
    assert sum("was lost" in note or "died of" in note for note in driver.notes) == 3
    scene.cluster.kills += 3
    scene.check({"1/poison.png"})
    (scene.photos / "1/poison.png").unlink()


def a_second_driver_is_refused(scene: Scene) -> None:
    driver = scene.drive(image_seconds=0.6)
    driver.until_done(1)
    assert read_status(scene.out, scene.storage_options).parts[0].at_work
    second = scene.drive()
    assert "has a driver: process" in second.end()["text"]
    assert driver.end()["done"] == IMAGES


def a_driver_sleeps_and_wakes_when_another_has_taken_over(scene: Scene) -> None:
    driver = scene.drive(lapse_seconds=3)
    driver.until_done(1)
    driver.process.send_signal(signal.SIGSTOP)
    time.sleep(3)  # until its lease has lapsed
    second = scene.drive(on=None, ray_address=None, lapse_seconds=3)
    second.until_done(3)
    driver.process.send_signal(signal.SIGCONT)
    end = driver.end()
    assert end["event"] == "end" or "another driver has taken over" in end["text"]
    assert second.end()["total"] == IMAGES


def ctrl_c(scene: Scene) -> None:
    driver = scene.drive()
    driver.until_done(2)
    driver.process.send_signal(signal.SIGINT)
    end = driver.end()
    assert (end["interrupted"], driver.process.returncode) == (True, 130)
    assert not list(scene.bucket.list(".fcnseg/leases"))
    assert scene.drive().end()["kept"] >= 2 * SHARD_IMAGES


def no_node_has_room(scene: Scene) -> None:
    scene.cluster.want(0)
    driver = scene.drive()
    driver.until(lambda event: "no node of the cluster has room" in event.get("text", ""))
    scene.cluster.want(2)
    assert driver.end()["done"] == IMAGES


def a_worker_has_another_library(scene: Scene) -> None:
    scene.cluster.want(2)
    driver = scene.drive(flag=f"{scene.photos}.flag", image_seconds=0.3)
    assert driver.end()["done"] == IMAGES
    refused = [note for note in driver.notes if "it has another environment: library was" in note]
    assert len(refused) == 1
    assert max(event["alive"] for event in driver.events if event["event"] == "shards") == 1


def the_bundled_model_gives_the_bytes_of_one_machine(scene: Scene) -> None:
    scene.cluster.want(2)
    shutil.rmtree(scene.photos)
    scene.photos.mkdir()
    for number in range(4):
        shutil.copy(ROOT.parent / f"examples/street/images/scene_{number:04}.jpg", scene.photos)
    assert scene.drive(is_real=True, shard_images=1).end()["done"] == 4
    local = scene.photos.with_name("local")
    assert fcnseg.run(scene.photos, local).done == 4
    remote = {found.key: scene.bucket.get(found.key) for found in scene.bucket.list()}
    maps = {path.name: path.read_bytes() for path in local.glob("*.png")}
    assert {key: content for key, content in remote.items() if not key.startswith(".fcnseg/")} == maps


SCENES: list[Callable[[Scene], None]] = [
    workers_die,
    an_image_ends_its_process,
    the_driver_dies,
    a_second_driver_is_refused,
    a_driver_sleeps_and_wakes_when_another_has_taken_over,
    ctrl_c,
    a_node_dies_and_a_spare_takes_over,
    a_node_dies_and_the_other_goes_on,
    a_worker_has_another_library,
    the_bundled_model_gives_the_bytes_of_one_machine,
    no_node_has_room,
]

IN_A_BUCKET = {"workers_die", "a_second_driver_is_refused"}


@pytest.mark.slow
def test_whatever_dies_every_image_is_done_once(
    tmp_path: Path, subtests: pytest.Subtests, request: pytest.FixtureRequest
) -> None:
    endpoint = request.getfixturevalue("s3_server")
    with started_cluster() as cluster:
        cluster.want(2)
        for play in SCENES:
            folder = tmp_path / play.__name__
            in_a_bucket = play.__name__ in IN_A_BUCKET
            out = f"s3://bucket/{play.__name__}" if in_a_bucket else f"file://{folder}/out"
            with subtests.test(play.__name__):
                scene = Scene(cluster, folder, out, options_of(endpoint) if in_a_bucket else {})
                try:
                    play(scene)
                    scene.check()
                finally:
                    scene.end()
            shutil.rmtree(folder, ignore_errors=True)
        assert cluster.kills >= 7
