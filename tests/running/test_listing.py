import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.errors import SettingsError
from fcnseg.io.parts import part_of
from fcnseg.running.listing import survey
from fcnseg.types import Failure
from tests.fakes import MemorySource

NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["a.jpg", "b.jpg", "a.png"], "a.jpg and a.png"),
        (["s/a.jpg", "a.jpg", "s/a.tif"], "s/a.jpg and s/a.tif"),
        (["a.jpg", "a.png/b.jpg"], "a.jpg and the folder a.png"),
        (["x/a.jpg", "x/a.png/c/b.jpg"], "x/a.jpg and the folder x/a.png"),
    ],
)
def test_two_inputs_for_one_output_are_named(keys: list[str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        survey(MemorySource(keys))


def test_only_the_first_of_many_clashes_are_shown() -> None:
    with pytest.raises(SettingsError, match="and 7 more pairs"):
        survey(MemorySource([f"{i}.{suffix}" for i in range(10) for suffix in ("jpg", "png")]))


def test_alike_names_do_not_clash() -> None:
    keys = ["a.jpg", "b/a.jpg", "a.b.jpg", "a.png.d/b.jpg", "A.jpg", "a .jpg"]
    assert survey(MemorySource(keys)).total == 6


@given(st.lists(NAMES, max_size=12))
def test_clashes_are_those_that_a_set_finds(stems: list[str]) -> None:
    source = MemorySource([f"{stem}.jpg" for stem in stems])
    if len(set(stems)) < len(stems):
        with pytest.raises(SettingsError):
            survey(source)
    else:
        assert survey(source).total == len(stems)


def test_inputs_are_counted_by_part_and_checked() -> None:
    keys = [f"{i}.jpg" for i in range(100)]
    failure = Failure("lost+found/", "list", "why")
    seen = []
    listing = survey(MemorySource(keys, unlisted=[failure]), 3, check=lambda r: seen.append(r.key))
    assert sum(listing.parts) == listing.total == 101
    assert seen == keys
    assert listing.failures == [failure]
    expected = [0, 0, 0]
    for key in [*keys, failure.key]:
        expected[part_of(key, 3)] += 1
    assert listing.parts == expected


@pytest.mark.slow
def test_a_million_inputs_take_little_memory() -> None:
    script = """
import resource
from fcnseg.running.listing import survey
from fcnseg.types import Reference
class Many:
    def __iter__(self):
        stems = (f"folder{i % 1000}/{i:07}" for i in range(1_000_000))
        return (Reference(f"{stem}.jpg", stem, "", None) for stem in stems)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert survey(Many()).total == 1_000_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60  # MiB: two arrays of 64-bit hashes, and slack
