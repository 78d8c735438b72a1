import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from fcnseg.errors import OutputError
from fcnseg.io.atomic import checksum
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running.volumes import MISSING, LabelVolume, ListInputs, ProbabilityVolume, Volume, VolumeInput
from fcnseg.running.writing import write
from fcnseg.types import EngineInfo, Frame, Labels, Prediction, Probabilities
from tests.conftest import mounted


def info(*classes: int) -> EngineInfo:
    heads = {
        f"head{i}": LabelSpace(tuple(map(str, range(k))), tuple(voc_color(j % 256) for j in range(k)), 255)
        for i, k in enumerate(classes)
    }
    return EngineInfo("fake", "cpu", "fp32", "net", "abc", heads, ("color",), {"fcnseg": "1"})


def labels_of(number: int, height: int = 30, width: int = 40) -> Labels:
    return np.random.default_rng(number).integers(0, 5, (height, width), dtype=np.uint8)


def probabilities_of(number: int) -> Probabilities:
    return np.random.default_rng(number).random((5, 30, 40), dtype=np.float32)


def stage(volume: Volume, stem: str, labels: Labels, probabilities: Probabilities | None = None) -> None:
    heads = volume.info.heads
    found = None if probabilities is None else dict.fromkeys(heads, probabilities)
    write([volume.sink], Frame(stem, stem, {}), Prediction(dict.fromkeys(heads, labels), found))


def listing(keys: Sequence[str], *, rows: bool = False) -> ListInputs:
    def inputs() -> Iterator[VolumeInput]:
        for row, key in enumerate(keys):
            yield VolumeInput(key, key.removesuffix(".jpg"), row if rows else None)

    return inputs


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_data_set_an_image_under_its_key(tmp_path: Path) -> None:
    keys = ["a/b.c.jpg", "ü\n.jpg", os.fsdecode(b"-\xff.jpg")]
    volume = LabelVolume(tmp_path / "masks.h5", info(5))
    for i, key in enumerate(keys):
        stage(volume, key.removesuffix(".jpg"), labels_of(i, 20 + i))
    output = volume.assemble(listing([*keys, "bad.jpg"]), {"bad.jpg": "it is broken"}, keep=False)
    assert (output.size, output.checksum) == (volume.file.stat().st_size, checksum(volume.file))
    with h5py.File(volume.file) as file:
        for i, key in enumerate(keys):
            assert np.array_equal(file[os.fsencode(key)], labels_of(i, 20 + i))
        assert file[MISSING].asstr()[()].tolist() == [["bad.jpg", "it is broken"]]
        assert dict(file.attrs) == {"model": "net", "weights_sha256": "abc", "fcnseg": "1"}
        described = file[keys[0]].attrs
        assert described["classes"].tolist() == list("01234")
        assert described["colors"].tolist()[1] == [128, 0, 0]
        assert described["ignore"] == 255
    volume.discard_staged()
    assert files_below(tmp_path) == ["masks.h5"]


def test_rows_of_one_size_are_one_data_set(tmp_path: Path) -> None:
    volume = LabelVolume(tmp_path / "masks.h5", info(5))
    for i in (1, 3):
        stage(volume, f"images/{i}", labels_of(i))
    missing = {f"images/{i}": "broken" for i in (0, 2, 4)}
    volume.assemble(listing([f"images/{i}" for i in range(5)], rows=True), missing, keep=False)
    with h5py.File(volume.file) as file:
        found = file["labels"]
        assert (found.dtype, found.shape, found.chunks) == (np.uint8, (5, 30, 40), (1, 30, 40))
        for i in range(5):
            assert np.array_equal(found[i], labels_of(i) if i in (1, 3) else np.full((30, 40), 255))


def test_rows_of_several_sizes_are_a_data_set_each(tmp_path: Path) -> None:
    volume = LabelVolume(tmp_path / "masks.h5", info(5, 4))
    for i in range(2):
        stage(volume, f"images/{i}", labels_of(i, 10 + i))
    volume.assemble(listing(["images/0", "images/1"], rows=True), {}, keep=False)
    with h5py.File(volume.file) as file:
        assert np.array_equal(file["head1/images/1"], labels_of(1, 11))
        assert file["head1/images/1"].attrs["classes"].tolist() == list("0123")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_probabilities_keep_their_axes_and_type(tmp_path: Path, dtype: str) -> None:
    volume = ProbabilityVolume(tmp_path / "probs.h5", info(5), dtype)
    stage(volume, "a", labels_of(0), probabilities_of(0))
    volume.assemble(listing(["a.jpg"]), {}, keep=False)
    with h5py.File(volume.file) as file:
        assert np.array_equal(file["a.jpg"], probabilities_of(0).astype(dtype))
        assert (file["a.jpg"].dtype, file["a.jpg"].compression) == (dtype, "gzip")


def test_the_most_probable_classes_are_two_data_sets(tmp_path: Path) -> None:
    volume = ProbabilityVolume(tmp_path / "probs.h5", info(5), "float32", top_k=2)
    stage(volume, "a", labels_of(0), probabilities_of(0))
    volume.assemble(listing(["a.jpg"]), {}, keep=False)
    stage(volume, "b", labels_of(1), probabilities_of(1))
    volume.staged_file("a", "head0").unlink()  # taken over from the file
    volume.assemble(listing(["a.jpg", "b.jpg"]), {}, keep=True)
    with h5py.File(volume.file) as file:
        for i, key in enumerate(("a.jpg", "b.jpg")):
            assert np.array_equal(file[key], np.sort(probabilities_of(i), axis=0)[::-1][:2])
            assert np.array_equal(file[f"{key}.classes"][0], probabilities_of(i).argmax(0))


@pytest.mark.parametrize("rows", [False, True])
def test_images_are_added_to_an_earlier_file(tmp_path: Path, rows: bool) -> None:
    keys = [f"images/{i}" for i in range(3)]
    volume = LabelVolume(tmp_path / "masks.h5", info(5))
    stage(volume, keys[0], labels_of(0))
    volume.assemble(listing(keys[:2], rows=rows), {keys[1]: "broken"}, keep=False)
    volume.discard_staged()
    stage(volume, keys[1], labels_of(1))
    stage(volume, keys[2], labels_of(2))
    volume.assemble(listing(keys, rows=rows), {}, keep=True)
    with h5py.File(volume.file) as file:
        for i, key in enumerate(keys):
            assert np.array_equal(file["labels"][i] if rows else file[key], labels_of(i))
        assert MISSING not in file


def test_an_input_that_is_nowhere_is_said_and_the_file_stays(tmp_path: Path) -> None:
    volume = LabelVolume(tmp_path / "masks.h5", info(5))
    stage(volume, "a", labels_of(0))
    volume.assemble(listing(["a.jpg"]), {}, keep=False)
    before = volume.file.read_bytes()
    with pytest.raises(OutputError, match=r"b\.png is gone"):
        volume.assemble(listing(["a.jpg", "b.jpg"]), {}, keep=True)
    assert volume.file.read_bytes() == before


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    volume = LabelVolume(tmp_path / "masks.h5", info(5))
    stage(volume, "a", labels_of(0))
    assert volume.assemble(listing(["a.jpg"]), {}, keep=False) == volume.assemble(listing(["a.jpg"]), {}, keep=False)


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=20m") as folder:
        volume = LabelVolume(folder / "masks.h5", info(5))
        stage(volume, "a", labels_of(0))
        volume.assemble(listing(["a.jpg"]), {}, keep=False)
        before = volume.file.read_bytes()
        (folder / "filler").write_bytes(bytes(10 << 20))
        with pytest.raises(OutputError, match="no space left"):
            volume.assemble(listing(["a.jpg"]), {}, keep=False)
        assert volume.file.read_bytes() == before
        (folder / "filler").unlink()
        volume.assemble(listing(["a.jpg"]), {}, keep=False)


CHILD = """
import sys
from pathlib import Path
from tests.running.test_volumes import IMAGES, LabelVolume, info, listing

volume = LabelVolume(Path(sys.argv[1]), info(5))
print("ready", flush=True)
while True:
    volume.assemble(listing([f"{i}.jpg" for i in range(IMAGES)]), {}, keep=False)
    print("assembled", flush=True)
"""

IMAGES = 100


def test_killed_while_it_is_written_the_file_is_whole(tmp_path: Path) -> None:
    volume = LabelVolume(tmp_path / "masks.h5", info(5))
    for i in range(IMAGES):
        stage(volume, str(i), labels_of(i))
    whole = volume.assemble(listing([f"{i}.jpg" for i in range(IMAGES)]), {}, keep=False)
    unfinished = volume.staged.with_suffix(".h5")
    broken = 0
    for wait_bytes in (1, 20_000, 60_000):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(volume.file)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as child:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            while child.poll() is None and not (unfinished.exists() and _size(unfinished) >= wait_bytes):
                pass
            child.send_signal(signal.SIGKILL)
        assert checksum(volume.file) == whole.checksum
        broken += unfinished.exists()
    assert broken  # at least one was killed half way
    again = volume.assemble(listing([f"{i}.jpg" for i in range(IMAGES)]), {}, keep=False)
    assert (again.checksum, unfinished.exists()) == (whole.checksum, False)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # renamed in between
        return 0
