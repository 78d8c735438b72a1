"""Runs in shards whose outputs are one tar a shard."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from fcnseg.errors import SettingsError, StorageError
from fcnseg.io.buckets import Bucket
from fcnseg.io.label_maps import read_map
from fcnseg.io.pairing import find_maps
from fcnseg.running.options import RunOptions, check_options
from fcnseg.running.sharded.manifest import Manifest, finished
from fcnseg.running.sharded.places import Shard
from tests.conftest import photograph
from tests.fakes import RedEngine
from tests.running.sharded.conftest import IMAGES, Place, Run, settled_rows


def keys(bucket: Bucket) -> list[str]:
    return sorted(found.key for found in bucket.list() if not found.key.startswith(".fcnseg/"))


def members(bucket: Bucket) -> dict[str, bytes]:
    content: dict[str, bytes] = {}
    for key in keys(bucket):
        with tarfile.open(fileobj=BytesIO(bucket.get(key))) as archive:
            content |= {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    return content


def test_tars_hold_the_files_of_the_other_format(place: Place, run: Run) -> None:
    run()
    files = {key: place.bucket.get(key) for key in keys(place.bucket)}
    run(resume="overwrite", out_format="tar")
    assert keys(place.bucket) == [f"0001-{number:08}.tar" for number in range(IMAGES // 4)]
    assert members(place.bucket) == files
    for number in finished(place.bucket, 1):
        assert Manifest(place.bucket, Shard(1, number)).metadata["archives"] == [f"0001-{number:08}.tar"]
    recorded = {output.path for row in settled_rows(place.bucket).values() for output in row.outputs}
    assert recorded == files.keys()
    run(resume="overwrite")
    assert keys(place.bucket) == sorted(files)


def test_formats_are_not_mixed(run: Run) -> None:
    run(out_format="tar")
    with pytest.raises(SettingsError, match="out-format was tar"):
        run()


def test_a_changed_image_is_in_a_new_tar_that_counts(place: Place, run: Run, photos: Path) -> None:
    run(out_format="tar")
    photograph(photos / "0/00.png", width=50, height=20, seed=99)
    summary, _ = run(out_format="tar")
    assert summary.done == 1
    assert keys(place.bucket)[-1] == "0002-00000000.tar"
    found = find_maps(place.out, storage_options=place.options)
    assert len(found) == IMAGES
    assert read_map(found["0/00"][0]).values.shape == (20, 50)


def test_a_failed_image_is_in_no_tar(place: Place, run: Run, photos: Path) -> None:
    (photos / "1/01.png").write_bytes(b"no image")
    summary, _ = run(out_format="tar")
    assert summary.failed == 1
    assert len(members(place.bucket)) == IMAGES - 1


def test_a_shard_that_is_not_finished_has_no_tar(place: Place, run: Run) -> None:
    predicted: list[object] = []

    class Failing(RedEngine):
        def infer(self, inputs, probabilities=False):  # type: ignore[no-untyped-def]
            predicted.append(inputs)
            if len(predicted) > 6:
                raise StorageError("it went away")
            return super().infer(inputs, probabilities)

    with pytest.raises(StorageError):
        run(Failing, out_format="tar", batch=1, workers=1)
    assert len(keys(place.bucket)) == len(finished(place.bucket, 1)) < IMAGES // 4
    run(out_format="tar")
    assert len(members(place.bucket)) == IMAGES


def test_a_tar_that_no_run_made_is_not_replaced(place: Place, run: Run) -> None:
    place.bucket.put("0001-00000007.tar", b"mine")
    with pytest.raises(SettingsError, match=r"0001-00000007.tar exists and no run of fcnseg made it"):
        run(out_format="tar")


@pytest.mark.parametrize("out_format", ["zip", "tar"])
def test_other_formats_and_folders_are_refused(tmp_path: Path, out_format: str) -> None:
    with pytest.raises(SettingsError, match=f"--out-format {out_format}"):
        check_options(RunOptions("photos", tmp_path, out_format=out_format))
