"""What changed between two runs, against NumPy written out, and its page in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.scoring.diff import diff, diff_with
from fcnseg.scoring.options import DiffOptions
from fcnseg.scoring.report.diff_report import write_diff_report
from tests.conftest import photograph
from tests.scoring.browser import opened
from tests.scoring.maps import random_maps, save

NAMES = ("a", "b", "c")


def runs(folder: Path) -> tuple[str, str, str]:
    """Two runs and ground truth: image a is the same in both, b and c differ."""
    for number, name in enumerate(NAMES):
        truth, before = random_maps(number, 4, (20, 30))
        after = np.where(np.random.default_rng(number).random(truth.shape) < 0.2 * number, (before + 1) % 4, before)
        for side, labels in (("gt", truth), ("before", before), ("after", after)):
            save(folder / f"{side}/{name}.png", labels.astype(np.uint8))
    return str(folder / "before"), str(folder / "after"), str(folder / "gt")


def maps(folder: Path, name: str) -> list[np.ndarray]:
    from PIL import Image

    return [np.asarray(Image.open(folder / side / f"{name}.png")).astype(int) for side in ("before", "after", "gt")]


def test_changes_are_counted_by_image_and_class(tmp_path: Path) -> None:
    before, after, _ = runs(tmp_path)
    found = diff(before, after, classes="4")
    everything = [maps(tmp_path, name) for name in NAMES]
    assert [image.key for image in found.images] == ["c", "b", "a"]
    assert {i.key: i.changed for i in found.images} == {
        name: int((b != a).sum()) for name, (b, a, _) in zip(NAMES, everything, strict=True)
    }
    assert (found.identical_images, found.truth, found.exit_code) == (1, None, 0)
    whole_before, whole_after = (np.stack([m[i] for m in everything]) for i in (0, 1))
    for row in found.per_class:
        was, is_ = whole_before == row.index, whole_after == row.index
        assert (row.pixels_before, row.pixels_after) == (was.sum(), is_.sum())
        assert (row.lost, row.gained) == ((was & ~is_).sum(), (is_ & ~was).sum())
        assert row.agreement_iu == (was & is_).sum() / (was | is_).sum()
    assert found.transitions.sum() == found.pixels == whole_before.size


def test_ground_truth_says_which_changes_helped(tmp_path: Path) -> None:
    before, after, truth = runs(tmp_path)
    found = diff(before, after, classes="4", truth=truth)
    assert found.truth is not None
    helped = hurt = neither = 0
    for name in NAMES:
        was, is_, right = maps(tmp_path, name)
        changed = (was != is_) & (right != 255)
        helped += int((changed & (is_ == right)).sum())
        hurt += int((changed & (was == right)).sum())
        neither += int((changed & (was != right) & (is_ != right)).sum())
    assert (found.truth.helped, found.truth.hurt, found.truth.neither) == (helped, hurt, neither)
    known = sum(int((maps(tmp_path, name)[2] != 255).sum()) for name in NAMES)
    rise = found.truth.pixel_accuracy[1] - found.truth.pixel_accuracy[0]
    assert rise == pytest.approx((helped - hurt) / known)
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_run_and_itself_do_not_differ(tmp_path: Path) -> None:
    before, _, _ = runs(tmp_path)
    found = diff(before, before, classes="4")
    assert (found.changed, found.agreement, found.identical_images) == (0, 1.0, 3)


def test_any_number_of_processes_gives_the_same(tmp_path: Path) -> None:
    before, after, truth = runs(tmp_path)
    found = [diff(before, after, classes="4", truth=truth, workers=n).as_dict() for n in (1, 2)]
    assert found[0] == found[1]


def test_ground_truth_is_read_as_the_score_reads_it(tmp_path: Path) -> None:
    before, after, truth = runs(tmp_path)
    direct = diff(before, after, classes="4", truth=truth)
    (tmp_path / "map.txt").write_text("\n".join(f"{value + 20}: {value}" for value in range(4)))
    for name in NAMES:
        values = maps(tmp_path, name)[2]
        save(tmp_path / f"ids/{name}_ids.png", np.where(values == 255, 255, values + 20).astype(np.uint8))
    ids = {"truth": tmp_path / "ids", "gt_pattern": "{stem}_ids.png", "label_map": tmp_path / "map.txt"}
    assert diff(before, after, classes="4", **ids).truth == direct.truth


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    before, after, truth = runs(tmp_path)
    Path(after, "b.png").unlink()
    with pytest.raises(LabelsError, match=r"1 without a map of the second run: b .*--allow-missing"):
        diff(before, after, classes="4")
    found = diff(before, after, classes="4", allow_missing=True)
    assert (found.only_before, found.only_after, found.exit_code) == (("b",), (), 3)
    save(Path(after, "b.png"), np.zeros((30, 20), np.uint8))
    with pytest.raises(LabelsError, match="20 x 30 px; one of them is turned"):
        diff(before, after, classes="4")
    save(Path(after, "b.png"), np.full((20, 30), 9, np.uint8))
    with pytest.raises(LabelsError, match=r"b.png has label 9 on 600 pixels, but labels are 0 to 3"):
        diff(before, after, classes="4")
    Path(truth, "c.png").unlink()
    with pytest.raises(LabelsError, match="1 without a ground truth: c"):
        diff(before, before, classes="4", truth=truth)


def test_runs_of_other_classes_are_not_compared(tmp_path: Path) -> None:
    before, after, _ = runs(tmp_path)
    for folder, names in ((before, ["x", "y"]), (after, ["x", "z"])):
        Path(folder, ".fcnseg").mkdir()
        Path(folder, ".fcnseg/run.json").write_text(json.dumps({"engine": {"heads": {"labels": names}}}))
    with pytest.raises(SettingsError, match="different classes"):
        diff(before, after, classes="4")
    with pytest.raises(SettingsError, match="predicted with 2 classes, but 4 are to be"):
        diff(before, before, classes="4")


def test_the_page_loads_sorts_and_flips(tmp_path: Path) -> None:
    before, after, truth = runs(tmp_path)
    for number, name in enumerate(NAMES):
        photograph(tmp_path / f"photos/{name}.jpg", 30, 20, number)
    for options in (DiffOptions(classes="4"), DiffOptions(classes="4", truth=truth)):
        found = diff_with(before, after, options)
        write_diff_report(tmp_path / "d.html", found, before, after, options, tmp_path / "photos")
        with opened(tmp_path / "d.html", viewport={"width": 390, "height": 800}) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            table = page.locator(".browse table")
            assert table.locator("tbody th").all_inner_texts() == ["c", "b", "a"]
            header = table.locator("thead button").nth(1)
            header.click()
            assert table.locator("tbody th").all_inner_texts() == ["a", "b", "c"]
            assert page.get_by_role("region", name="Largest changes").locator("tbody tr").count() == 4
            case = page.locator("figure.case").first
            case.get_by_role("button", name="Changes").click()
            assert case.locator(".wrong img").is_visible()
            assert (page.locator("dt", has_text="Helped").count() == 1) == (options.truth is not None)
