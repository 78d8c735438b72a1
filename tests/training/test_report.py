"""The page of a training, as its reader sees it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fcnseg.training import report
from fcnseg.training.report import ReportContent, read_log, write_training_report
from fcnseg.training.stages import run_plan
from tests.scoring.browser import opened
from tests.training.memory import CPU, blocks, plan, preset, tiny_recipe


def test_a_training_has_a_page_with_curves_classes_and_its_worst_images(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=8, heads=2)
    samples = blocks(recipe, [(40, 48), (40, 56), (33, 40)])
    how = replace(preset("modern", recipe, batch_size=2, steps=(2,), precision="fp32"), staged=True)
    done = plan(recipe, how, samples, tmp_path / "run", validate_every=1.0)
    run_plan(done, CPU)
    with opened(tmp_path / "run" / "report.html") as page:
        text = page.inner_text("body")
        for part in ("Finished, at step 2,", "class weights: ", "lr 0.003 (cosine)", "Figures of the validation"):
            assert part in text
        assert [f"Last validation: {head.name}" in text for head in recipe.heads] == [True, True]
        assert page.locator("figure.chart svg").count() == 3
        assert page.locator("figure.case").count() == 6
        rows = page.locator("table.sortable").first.locator("tbody tr").count()
        assert rows == len({*range(recipe.heads[0].labels.classes)})
    log = read_log(tmp_path / "run" / "log.csv")
    steps = report._steps_of_all_stages(log)
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (1, 6)


def test_without_matplotlib_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, [(40, 48)])
    empty = plan(recipe, preset("modern", recipe), samples, tmp_path)
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    write_training_report(empty, ReportContent([], state="Stopped"))
    text = (tmp_path / "report.html").read_text()
    assert "There are no curves without Matplotlib" in text
    assert "Stopped" in text
