import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.errors import SourceError
from fcnseg.io.buckets import open_store
from fcnseg.running.sharded.known import DONE, FAILED, NEITHER, EndedInputs, ListingDigest, digest
from fcnseg.running.sharded.places import generation_key
from fcnseg.running.sharded.plan import (
    FEWEST_IMAGES,
    FILE_IMAGES,
    SHARD_IMAGES,
    Generation,
    Planned,
    PlanReader,
    PlanWriter,
    commit,
    newest_generation,
    shard_images,
)
from fcnseg.types import Failure, Reference


def generation(**changes: object) -> Generation:
    values = {"number": 1, "inputs": 9, "listing": "", "planned": 9, "done": 0, "failed": 0, "shard_images": 4}
    return Generation(**{**values, "files": "f", **changes})  # type: ignore[arg-type]


@given(st.integers(0, 10**9), st.integers(1, 1000), st.none() | st.floats(1e-4, 1e4))
def test_shards_are_powers_of_two_and_lie_in_groups(inputs: int, workers: int, seconds: float | None) -> None:
    size = shard_images(inputs, workers, seconds)
    assert 1 <= size <= SHARD_IMAGES
    assert SHARD_IMAGES % size == 0
    assert size <= FEWEST_IMAGES or inputs / size >= 20 * workers
    assert size >= FEWEST_IMAGES or (seconds and size * 2 * seconds > 60) or size == 1
    assert size == 1 or seconds is None or size * seconds <= 60


def test_inputs_of_any_kind_come_back_in_their_shards(tmp_path: Path) -> None:
    bucket, writer = open_store(tmp_path), PlanWriter(open_store(tmp_path))
    odd = os.fsdecode(b"caf\xe9\n.png")
    special = [
        Planned(Reference(odd, odd[:-4], "", f"/x/{odd}"), "12-7"),
        Planned(Reference("in.tar", "in", "3-4-5", (4, 5)), "3-4-5"),
        Planned(Failure("dir/", "list", "no permission"), ""),
    ]
    many = [Planned(Reference(f"{i:06}.png", f"{i:06}", "", f"/{i}"), f"{i}") for i in range(FILE_IMAGES + 1500)]
    for planned in special + many:
        writer.add(planned)
    known = generation(planned=writer.finish(), shard_images=512, files=writer.folder)
    reader = PlanReader(bucket, known)
    assert reader.shard(0)[:3] == special
    shards = [reader.shard(number) for number in range(known.shards)]
    assert [planned for shard in shards for planned in shard] == special + many == list(reader)
    assert [len(shard) for shard in shards] == [known.images_in(number) for number in range(known.shards)]


def test_of_several_planners_one_wins(tmp_path: Path) -> None:
    bucket = open_store(tmp_path)
    assert newest_generation(bucket) is None
    assert commit(bucket, generation(files="mine"))
    assert not commit(bucket, generation(files="theirs"))
    assert newest_generation(bucket) == generation(files="mine")
    assert commit(bucket, generation(number=12))
    newest = newest_generation(bucket)
    assert newest
    assert newest.number == 12


def test_parts_share_the_shards() -> None:
    parts = [list(generation(planned=41).part(i, 3)) for i in range(3)]
    assert sorted(number for part in parts for number in part) == list(range(11))


def test_a_plan_that_is_none_is_one_error(tmp_path: Path) -> None:
    bucket = open_store(tmp_path)
    bucket.put(generation_key(1), b'{"number": 1}')
    with pytest.raises(SourceError, match="--overwrite"):
        newest_generation(bucket)


def test_the_digest_of_a_listing_knows_every_key_and_fingerprint_but_no_order() -> None:
    def of(*inputs: tuple[str, str]) -> str:
        listing = ListingDigest()
        for one in inputs:
            listing.add(digest(*one))
        return str(listing)

    assert of(("a", "1"), ("b", "2")) == of(("b", "2"), ("a", "1"))
    assert len({of(), of(("a", "1")), of(("a", "2")), of(("b", "1")), of(("a", "1"), ("a", "1"))}) == 5


def test_the_last_end_of_an_input_counts() -> None:
    ended = EndedInputs()
    assert ended.states([digest("a", "1")]).tolist() == [NEITHER]
    ended.add([digest("a", "1"), digest("b", "1"), digest("c", "1")], [DONE, FAILED, DONE])
    ended.add([digest("b", "2"), digest("c", "1")], [DONE, FAILED])
    asked = [digest("a", "1"), digest("a", "2"), digest("b", "1"), digest("b", "2"), digest("c", "1"), digest("d", "")]
    assert ended.states(asked).tolist() == [DONE, NEITHER, NEITHER, DONE, FAILED, NEITHER]
    assert len(ended) == 3
