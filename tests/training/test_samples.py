"""Decoded samples are kept as far as memory is given to them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fcnseg.training.samples import KeptSamples, LabelledSample
from tests.training.memory import InMemory, blocks, tiny_recipe


class Counted(InMemory):
    """Samples that count how often each is read."""

    def __getitem__(self, index: int) -> LabelledSample:
        READS[index] += 1
        return super().__getitem__(index)


READS: Counter[int] = Counter()


def test_what_fits_is_read_once_and_the_rest_each_time(tmp_path: Path) -> None:
    READS.clear()
    samples = Counted(blocks(tiny_recipe(tmp_path), [(10, 20)] * 3).samples)
    of_one = 10 * 20 * (3 + 1)
    kept = KeptSamples(samples, 2 * of_one)
    for _ in range(3):
        assert [kept[index].name for index in range(3)] == list(samples.names)
    assert (len(kept), list(kept.names)) == (3, list(samples.names))
    assert READS == {0: 1, 1: 1, 2: 3}
