"""The images that each step sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fcnseg.training.batches import VisitSampler
from fcnseg.training.distributed import Ranks


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 40))
def test_every_image_is_seen_once_an_epoch_from_wherever_one_begins(images: int, batch: int, start: int) -> None:
    whole = [v for step in VisitSampler(images, batch, (7, 0), 0, start + images, Ranks()) for v in step]
    for epoch in range(len(whole) // images):
        assert sorted(i for i, _ in whole[epoch * images : (epoch + 1) * images]) == list(range(images))
    later = [v for step in VisitSampler(images, batch, (7, 0), start, start + images, Ranks()) for v in step]
    assert later == whole[start * batch :]


def test_processes_share_every_batch() -> None:
    alone = list(VisitSampler(7, 6, (0, 1), 0, 5, Ranks()))
    shared = [list(VisitSampler(7, 6, (0, 1), 0, 5, Ranks(rank, 3))) for rank in range(3)]
    for step, visits in enumerate(alone):
        assert sorted(visits) == sorted(v for rank in shared for v in rank[step])
