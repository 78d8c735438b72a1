import pytest

from fcnseg.errors import OutputError
from fcnseg.running.sharded.poison import PoisonSearch, Suspect


def test_one_image_is_found_by_the_third_death() -> None:
    search = PoisonSearch()
    assert search.died(7, 8)
    assert search.died(3, 8), "deaths at other shards say nothing"
    assert not search.died(7, 8)
    suspect = search.suspects.popleft()
    assert suspect == Suspect(7, 8)
    suspect.index = 5
    search.found(suspect, "poison.png")
    assert search.poisonous == {7: {"poison.png"}}


def test_a_second_image_of_a_shard_is_searched_behind_the_first() -> None:
    search = PoisonSearch()
    for key, index in (("a", 2), ("b", 6)):
        while search.died(7, 8):
            pass
        suspect = search.suspects.popleft()
        suspect.index = index
        search.found(suspect, key)
    assert search.poisonous == {7: {"a", "b"}}
    assert not search.died(7, 8)
    assert search.suspects.popleft().index == 7


def test_a_shard_of_which_no_image_is_guilty_ends_the_run_in_the_end() -> None:
    search = PoisonSearch()
    search.died(7, 8)
    search.died(7, 8)
    search.outlived(search.suspects.popleft())
    assert 7 in search.innocent
    assert not search.died(7, 8)
    with pytest.raises(OutputError, match="of no single image"):
        search.died(7, 8)
