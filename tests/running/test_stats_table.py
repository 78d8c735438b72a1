"""Tables of the pixels of each class."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running.stats_table import StatsTable, column_names
from fcnseg.types import Frame, Prediction


def space(*names: str, ignore: int = 255) -> LabelSpace:
    return LabelSpace(names, tuple(voc_color(i % 256) for i in range(len(names))), ignore)


def frame(key: str, height: int, width: int) -> Frame:
    return Frame(key, key, {"color": np.zeros((height, width, 3), np.uint8)})


def written(table: StatsTable, *entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    table.write(file, entries)
    return file.getvalue()


def test_rows_are_what_numpy_counts() -> None:
    heads = {"a": space("x", "y, z"), "b": space(*map(str, range(300)), ignore=65535)}
    rng = np.random.default_rng(0)
    shape = (700, 900)
    first = rng.integers(0, 3, shape, dtype=np.uint8)
    first[first == 2] = 255
    second = rng.integers(0, 300, shape, dtype=np.uint16)
    values = {name: rng.dirichlet(np.ones(3), (7, 9)).transpose(2, 0, 1).astype(np.float32) for name in heads}
    table = StatsTable("t.csv", heads, confidence=True)
    entry = table.entry(frame("k", *shape), Prediction({"a": first, "b": second}, values))
    (row,) = csv.DictReader(io.StringIO(written(table, ("ü,\n.jpg", entry)).decode()))
    assert (row["key"], row["width"], row["height"]) == ("ü,\n.jpg", "900", "700")
    assert [int(row[f"pixels/a/{name}"]) for name in ("x", "y, z", "void")] == [
        int((first == label).sum()) for label in (0, 1, 255)
    ]
    assert [int(row[f"pixels/b/{i}"]) for i in range(300)] == np.bincount(second.ravel()).tolist()
    assert sum(float(row[f"share/b/{i}"]) for i in range(300)) == pytest.approx(1)
    assert float(row["share/a/void"]) == (first == 255).mean()
    for head in heads:
        assert float(row[f"confidence/{head}"]) == pytest.approx(values[head].max(0).mean(), rel=1e-6)


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    heads = {"labels": space("x", "y")}
    labels = [np.full((3, 5), i % 2, np.uint8) for i in range(10)]
    table = StatsTable("t.csv", heads)
    entries = [
        (f"{i}\udcff.jpg", table.entry(frame("", 3, 5), Prediction({"labels": one}))) for i, one in enumerate(labels)
    ]
    (tmp_path / "t.PARQUET").write_bytes(written(StatsTable("t.PARQUET", heads), *entries))
    rows = parquet.read_table(tmp_path / "t.PARQUET").to_pylist()
    in_csv = list(csv.DictReader(io.StringIO(written(table, *entries).decode())))
    assert [{name: str(value) for name, value in row.items()} for row in rows] == in_csv
    assert rows[1] == {
        "key": "1\\xff.jpg",
        "width": 5,
        "height": 3,
        "pixels/x": 0,
        "pixels/y": 15,
        "pixels/void": 0,
        "share/x": 0.0,
        "share/y": 1.0,
        "share/void": 0.0,
    }
    assert parquet.read_table(io.BytesIO(written(StatsTable("t.parquet", heads)))).num_rows == 0


def test_names_of_columns_are_told_apart() -> None:
    assert column_names(space("void", "a", "a")) == ["void (0)", "a (1)", "a (2)", "void (255)"]
