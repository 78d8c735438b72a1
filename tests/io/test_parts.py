"""Parts of a run: the same on every machine, about equal."""

from fcnseg.io.parts import part_of


def test_parts_are_stable_and_even() -> None:
    assert [part_of(f"{i}.jpg", 4) for i in range(8)] == [2, 1, 0, 2, 0, 0, 0, 2]  # for ever: on every machine
    counts = [0] * 4
    for i in range(4000):
        counts[part_of(f"photos/{i:06}.jpg", 4)] += 1
    assert all(900 < n < 1100 for n in counts)
