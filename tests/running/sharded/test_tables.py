"""Files of all images, of runs in shards."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import SettingsError
from fcnseg.io.sources import open_source
from tests.conftest import photograph
from tests.running.sharded.conftest import IMAGES, Place, Run
from tests.running.sharded.test_run import Breaking


def read(place: Place, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(place.bucket.get(name).decode())))


def check(rows: list[dict[str, str]], place: Place, photos: Path, failed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """A row for each input that has a label map, in order, and what it says is true."""
    assert [row["key"] for row in rows] == [one.key for one in open_source(photos) if one.key not in failed]
    for row in rows:
        labels = np.asarray(Image.open(io.BytesIO(place.bucket.get(row["key"]))))
        assert (int(row["height"]), int(row["width"])) == labels.shape
        assert [int(row[f"pixels/{name}"]) for name in "abcd"] == np.bincount(labels.ravel(), minlength=4).tolist()


def test_a_table_beside_the_label_maps(run: Run, place: Place, photos: Path) -> None:
    stats = f"{place.out}/stats.csv"
    run(lambda: Breaking(KeyboardInterrupt(), 11), stats=stats)
    assert len(read(place, "stats.csv")) == 8, "an interrupted run writes what it has"
    (photos / "bad.png").touch()
    photograph(photos / "0/00.png", width=35, height=20, seed=77)
    summary, _ = run(stats=stats)
    assert (summary.done, summary.kept, summary.failed) == (IMAGES - 7, 7, 1)
    check(read(place, "stats.csv"), place, photos, {"bad.png"})
    whole = place.bucket.get("stats.csv")
    place.bucket.delete("stats.csv")
    run(stats=stats)
    assert place.bucket.get("stats.csv") == whole
    (photos / "bad.png").unlink()
    (photos / "1/01.png").unlink()
    run(stats=stats)
    check(read(place, "stats.csv"), place, photos)
    with pytest.raises(SettingsError, match=r"stats was .*, is None"):
        run()
    run(resume="overwrite", stats=stats)
    check(read(place, "stats.csv"), place, photos)


def test_a_table_on_this_machine_and_parts(run: Run, place: Place, photos: Path, tmp_path: Path) -> None:
    stats = tmp_path / "tables/stats.parquet"
    for part in (1, 0):
        run(num_parts=2, part_id=part, stats=stats)
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{name: str(value) for name, value in row.items()} for row in parquet.read_table(stats).to_pylist()]
    check(rows, place, photos)


def test_a_file_that_no_run_made_is_not_replaced(run: Run, place: Place, tmp_path: Path) -> None:
    place.bucket.put("stats.csv", b"mine")
    (tmp_path / "stats.csv").write_text("mine")
    for stats in (f"{place.out}/stats.csv", tmp_path / "stats.csv"):
        with pytest.raises(SettingsError, match="no run of fcnseg made it"):
            run(stats=stats)
