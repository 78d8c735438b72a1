import os
from pathlib import Path

import numpy as np
import pytest

from fcnseg.io.atomic import write_whole
from fcnseg.running.intact import (
    absolute_path,
    are_intact,
    intact_staging_folders,
    is_intact,
    note_volume,
    recorded,
    recorded_names,
)
from fcnseg.running.memory_ledger import MemoryLedger
from fcnseg.running.writing import write
from fcnseg.types import Frame, OutputName, Prediction, RecordedOutput
from tests.fakes import RawSink


def written(folder: Path, name: str) -> tuple[Path, RecordedOutput]:
    output = write_whole(folder / name, [b"labels"])
    return folder / name, recorded(str(folder), output)


@pytest.mark.parametrize("harm", ["none", "touched", "edited", "edited to the same size and time", "cut", "deleted"])
def test_an_output_is_believed_as_long_as_it_is_what_was_written(tmp_path: Path, harm: str) -> None:
    path, output = written(tmp_path, "a.png")
    before = path.stat()
    if harm == "touched":
        os.utime(path)
    elif harm == "edited":
        path.write_bytes(b"other labels")
    elif harm == "edited to the same size and time":
        path.write_bytes(b"LABELS")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif harm == "cut":
        path.write_bytes(b"lab")
    elif harm == "deleted":
        path.unlink()
    assert is_intact(str(tmp_path), output) == (harm in ("none", "touched"))


def test_a_copied_folder_is_still_intact(tmp_path: Path) -> None:
    path, output = written(tmp_path, "sub/a.png")
    copy = tmp_path / "elsewhere"
    (copy / "sub").mkdir(parents=True)
    (copy / "sub/a.png").write_bytes(path.read_bytes())
    assert is_intact(str(copy), output)


def test_a_volume_stands_for_what_was_staged(tmp_path: Path) -> None:
    ledger = MemoryLedger(str(tmp_path))
    staged, output = written(tmp_path, "staging/a.png")
    note_volume(ledger, tmp_path / "staging", write_whole(tmp_path / "masks.h5", [b"all"]), "content")
    staged.unlink()
    assert are_intact(ledger.folder, [output], intact_staging_folders(ledger))
    (tmp_path / "masks.h5").write_bytes(b"al")
    assert not are_intact(ledger.folder, [output], intact_staging_folders(ledger))


@pytest.mark.parametrize("place", ["out", "out/more", "probs", "out/../probs", "out/../out"])
def test_recorded_names_are_those_of_what_is_written(tmp_path: Path, place: str) -> None:
    folder, sink = str(tmp_path / "out"), RawSink(tmp_path / place)
    prediction = Prediction({"labels": np.zeros((1, 1), np.uint8)})
    (output,) = write([sink], Frame("a/b.jpg", "a/b", {}), prediction)
    record = recorded(folder, output)
    (name,) = recorded_names(folder, [sink])
    assert isinstance(name, OutputName)
    assert name.of("a/b") == record.path
    assert Path(absolute_path(folder, record.path)).samefile(output.location)
