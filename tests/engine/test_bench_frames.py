"""Images of benchmarks: made-up ones, and some of a source."""

from pathlib import Path

import numpy as np
import pytest

from fcnseg.engine.bench_frames import made_up_frames, sample_frames
from fcnseg.io.sources import open_source
from fcnseg.recipes import find_recipe
from tests.conftest import make_tiny, photograph


def test_samples_are_evenly_spaced_and_broken_ones_named(tmp_path: Path) -> None:
    for number in range(8):
        photograph(tmp_path / f"{number}.jpg", seed=number)
    (tmp_path / "4.jpg").write_bytes(b"<html>")
    source = open_source(tmp_path, ("color",), {})
    frames, failures = sample_frames(source, 4)
    assert [frame.key for frame in frames] == ["0.jpg", "2.jpg", "6.jpg"]
    assert [(failure.key, failure.stage) for failure in failures] == [("4.jpg", "load")]
    assert len(sample_frames(source, 100)[0]) == 7


@pytest.mark.parametrize("streams", ["color", "depth", "hha"])
def test_made_up_images_are_smooth_and_always_the_same(tmp_path: Path, streams: str) -> None:
    recipe = find_recipe(make_tiny(tmp_path, streams=streams, stride=32).recipe)
    (first, second), (again, _) = (made_up_frames(recipe, (60, 80), 2) for _ in range(2))
    assert set(first.inputs) == set(recipe.modalities)
    color = first.inputs["color"]
    assert (color.dtype, color.shape) == (np.uint8, (60, 80, 3))
    assert np.array_equal(color, again.inputs["color"])
    assert not np.array_equal(color, second.inputs["color"])
    assert np.abs(np.diff(color.astype(int), axis=1)).mean() < 12 < color.std()
    if streams == "depth":
        assert (first.inputs["depth"].dtype, first.inputs["depth"].shape) == (np.float32, (60, 80, 1))
