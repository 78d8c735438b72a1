"""Label maps in buckets: one by one, and in tar objects."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import LabelsError, StorageError
from fcnseg.io.buckets import open_store
from fcnseg.io.label_maps import read_map
from fcnseg.io.label_maps_remote import locate_in_bucket
from fcnseg.io.pairing import find_maps
from fcnseg.io.tar_folder import TarFolder
from tests.storage_servers import FaultyProxy, options_of

pytest.importorskip("obstore")

MAPS = {f"{'ab'[i % 2]}/{i}": np.full((4, 5 + i), i, np.uint8) for i in range(4)}


def in_files(folder: Path) -> None:
    for name, values in MAPS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name == "a/2":
            np.save(folder / f"{name}.npy", values)
        else:
            Image.fromarray(values).save(folder / f"{name}.png")
    (folder / ".fcnseg").mkdir()
    (folder / ".fcnseg/legend.png").write_bytes((folder / "a/0.png").read_bytes())
    (folder / "notes.txt").write_text("no map")


def in_tars(folder: Path) -> None:
    in_files(folder / "files")
    paths = sorted(path for path in (folder / "files").rglob("*.*") if path.suffix in (".png", ".npy"))
    for number in range(2):
        with TarFolder(open_store(folder / "tars"), f"{number}.tar") as shard:
            for path in paths[number::2]:
                shard.place(path.relative_to(folder / "files").as_posix(), [path.read_bytes()])
            shard.put()


def test_maps_below_a_url_are_those_of_the_folder(tmp_path: Path) -> None:
    in_files(tmp_path)
    for located in locate_in_bucket(tmp_path.as_uri(), {}).values():
        name = located.name.rpartition(".")[0]
        assert np.array_equal(read_map(pickle.loads(pickle.dumps(located))).values, MAPS[name])
        assert str(located) == f"{tmp_path.as_uri()}/{located.name}"
    assert len(locate_in_bucket(tmp_path.as_uri(), {})) == len(MAPS)


def test_maps_in_tars_are_found_in_folders_and_behind_urls(tmp_path: Path) -> None:
    in_tars(tmp_path)
    for place in (str(tmp_path / "tars"), (tmp_path / "tars").as_uri()):
        found = find_maps(place)
        assert {name: read_map(location).values.tolist() for name, (location,) in found.items()} == {
            name: values.tolist() for name, values in MAPS.items()
        }
    one = locate_in_bucket(f"{tmp_path.as_uri()}/tars/1.tar", {})
    assert 0 < len(one) < len(MAPS)


def test_one_name_in_two_tars_is_refused(tmp_path: Path) -> None:
    for number in range(2):
        with TarFolder(open_store(tmp_path), f"{number}.tar") as shard:
            shard.place("a.png", [b"x"])
            shard.put()
    with pytest.raises(LabelsError, match=r"0.tar/a.png and .*1.tar/a.png are maps of one name"):
        locate_in_bucket(str(tmp_path), {})


def test_damaged_and_missing_maps_are_named(tmp_path: Path) -> None:
    in_files(tmp_path)
    located = locate_in_bucket(tmp_path.as_uri(), {})
    (tmp_path / "a/0.png").write_bytes(b"no image")
    (tmp_path / "b/1.png").unlink()
    for key, words in (("a/0.png", "it is no image"), ("b/1.png", "is not there any more")):
        with pytest.raises(LabelsError, match=f"^{tmp_path.as_uri()}/{key}.*{words}"):
            read_map(located[key])


def test_faults_of_the_storage_are_none_of_a_map() -> None:
    proxy = FaultyProxy()
    proxy.fault_of = lambda method, path: (400, "ExpiredToken")
    with proxy.served() as endpoint:
        (location,) = locate_in_bucket("s3://bucket/a.png", options_of(endpoint)).values()
        with pytest.raises(StorageError, match="have expired"):
            read_map(location)
