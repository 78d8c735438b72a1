"""Tiles cover an image once, see what they must, and are as few and as small as can be."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from fcnseg.models.halo import Halo
from fcnseg.running.tile_grid import cut_axis, cut_image, smallest_side

HALOS = st.builds(Halo, st.integers(0, 60), st.integers(0, 60), st.sampled_from([1, 3, 8, 32]))
SIZES = st.integers(1, 2000)


@given(SIZES, HALOS, st.integers(0, 500))
def test_tiles_along_an_axis_see_all_that_their_labels_depend_on(size: int, halo: Halo, longer: int) -> None:
    (rows,) = {tile[0] for tile in cut_image((1, size), halo)}
    assert rows.pixels == rows.labels == rows.kept == slice(0, 1)
    tiles = [columns for _, columns in cut_image((1, size), halo, (1, smallest_side(halo) + longer))]
    assert len({tile.end - tile.start for tile in tiles}) == 1
    assert (tiles[0].start, tiles[0].first, tiles[-1].end, tiles[-1].last) == (0, 0, size, size)
    assert all(one.last == following.first for one, following in pairwise(tiles))
    for tile in tiles:
        assert tile.start % halo.step_px == 0
        assert tile.start <= tile.first < tile.last <= tile.end
        assert tile.start == 0 or tile.first - tile.start >= halo.before_px
        assert tile.end == size or tile.end - tile.last >= halo.after_px
        assert tile.kept == slice(tile.first - tile.start, tile.last - tile.start)


@given(SIZES, SIZES, HALOS, st.integers(0, 400), st.integers(0, 400))
def test_tiles_keep_to_their_limits(height: int, width: int, halo: Halo, taller: int, area: int) -> None:
    least = smallest_side(halo)
    largest, most_px = (least + taller, 10_000), (least + area) ** 2
    tiles = cut_image((height, width), halo, largest, most_px)
    assert len({(rows.end - rows.start, columns.end - columns.start) for rows, columns in tiles}) == 1
    rows, columns = tiles[0]
    assert rows.end <= largest[0]
    assert rows.end * columns.end <= most_px
    assert sum((r.last - r.first) * (c.last - c.first) for r, c in tiles) == height * width
    assert (len(tiles) == 1) == (height <= largest[0] and height * width <= most_px)


@given(SIZES, HALOS, st.integers(2, 40))
def test_no_shorter_tiles_of_that_number_cover_an_axis(size: int, halo: Halo, limit: int) -> None:
    tiles = cut_image((1, size), halo, (1, smallest_side(halo) + limit))
    side = tiles[0][1].end - halo.step_px
    assume(len(tiles) > 1 and side >= halo.before_px + halo.after_px + halo.step_px)
    assert len(cut_axis(size, side, halo)) > len(tiles)


def test_what_cannot_be_cut_that_small_is_not_cut() -> None:
    halo = Halo(245, 245, 32)
    assert cut_image((1000, 1000), halo, (500, 500)) == ()
    assert cut_image((1000, 1000), halo, most_px=500 * 500) == ()
    assert cut_image((1000, 100), halo, most_px=smallest_side(halo) * 100)


def test_little_is_computed_twice() -> None:
    """20,000 x 20,000 in tiles of 4 megapixels: less than 1.8 times the pixels of the image."""
    tiles = cut_image((20_000, 20_000), Halo(245, 245, 32), most_px=4 << 20)
    assert sum(rows.end * columns.end for rows, columns in tiles[:1]) * len(tiles) < 1.8 * 20_000**2
