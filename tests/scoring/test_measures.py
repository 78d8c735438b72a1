"""The figures against the authors' definitions written out, scikit-learn, and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score
from torchmetrics.classification import MulticlassJaccardIndex

from fcnseg.scoring import confusion as confusion_module
from fcnseg.scoring import measures
from fcnseg.scoring.confusion import confusion, joint_counts
from fcnseg.scoring.measures import FIGURES, Tally
from tests.scoring.maps import random_maps

CASES = [(1, 1), (2, 2), (3, 21), (4, 60), (5, 255)]


def written_out(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> dict[str, float]:
    """Section 5 of the paper, pixel by pixel; classes that do not occur are left out."""
    n = [[0] * classes for _ in range(classes)]
    for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if t != 255:
            n[t][p] += 1
    totals = [sum(row) for row in n]
    unions = [totals[i] + sum(n[j][i] for j in range(classes)) - n[i][i] for i in range(classes)]
    ius = {i: n[i][i] / unions[i] for i in range(classes) if unions[i]}
    accuracies = [n[i][i] / totals[i] for i in range(classes) if totals[i]]
    return {
        "pixel_accuracy": sum(n[i][i] for i in range(classes)) / sum(totals),
        "mean_accuracy": sum(accuracies) / len(accuracies),
        "mean_iu": sum(ius.values()) / len(ius),
        "frequency_weighted_iu": sum(totals[i] * iu for i, iu in ius.items()) / sum(totals),
    }


@pytest.mark.parametrize(("seed", "classes"), CASES)
def test_the_four_figures_are_the_papers(seed: int, classes: int) -> None:
    truth, predicted = random_maps(seed, classes)
    tally = Tally.of(confusion(truth, predicted, classes))
    for name, value in written_out(truth, predicted, classes).items():
        assert FIGURES[name](tally) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("seed", "classes"), CASES)
def test_counts_dice_and_kappa_are_scikit_learns(seed: int, classes: int) -> None:
    truth, predicted = random_maps(seed, classes)
    counted = truth != 255
    counts = confusion(truth, predicted, classes)
    tally = Tally.of(counts)
    dice = measures.class_dice(tally)
    occurs = ~np.isnan(dice)
    theirs = f1_score(truth[counted], predicted[counted], labels=range(classes), average=None, zero_division=0)
    np.testing.assert_allclose(dice[occurs], theirs[occurs], atol=1e-12)
    if classes > 1:
        assert (counts == confusion_matrix(truth[counted], predicted[counted], labels=range(classes))).all()
        kappa = cohen_kappa_score(truth[counted], predicted[counted])
        assert measures.kappa(tally) == pytest.approx(kappa, abs=1e-12)
    else:
        assert np.isnan(measures.kappa(tally))


@pytest.mark.parametrize(("seed", "classes"), [c for c in CASES if c[1] > 1])
def test_iu_is_torchmetrics(seed: int, classes: int) -> None:
    truth, predicted = random_maps(seed, classes)
    metric = MulticlassJaccardIndex(classes, average=None, ignore_index=255)
    theirs = metric(torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None]).double().numpy()
    ours = measures.class_iu(Tally.of(confusion(truth, predicted, classes)))
    np.testing.assert_allclose(np.nan_to_num(ours), theirs, atol=1e-6)  # torchmetrics divides in float32


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.permutations(range(30)))
@settings(max_examples=50)
def test_relabelling_permutes_the_table_and_changes_no_mean(seed: int, classes: int, order: list[int]) -> None:
    truth, predicted = random_maps(seed, classes, (5, 7))
    new = np.array([i for i in order if i < classes] + [255] * (256 - classes))
    before = Tally.of(confusion(truth, predicted, classes))
    after = Tally.of(confusion(new[truth], new[predicted], classes))
    np.testing.assert_array_equal(measures.class_iu(after)[new[:classes]], measures.class_iu(before))
    for measure in FIGURES.values():
        np.testing.assert_allclose(measure(after), measure(before), rtol=1e-12)


def test_absent_classes_are_in_no_mean() -> None:
    truth, predicted = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 2]])
    tally = Tally.of(confusion(truth, np.where(predicted == 2, 0, predicted), 4))
    assert measures.class_iu(tally)[:2].tolist() == [0.5, 0.5]
    assert np.isnan(measures.class_iu(tally)[2:]).all()
    assert measures.mean_iu(tally) == 0.5
    only_first = Tally(tally.hits, tally.truth, tally.predicted, np.array([True, False, False, False]))
    assert measures.mean_accuracy(only_first) == 0.5


def test_a_class_that_is_only_predicted_has_iu_zero() -> None:
    counts = confusion(np.zeros((1, 2), np.uint8), np.array([[0, 1]], np.uint8), 3)
    assert measures.mean_iu(Tally.of(counts)) == 0.25


def test_nothing_counted_gives_no_figures() -> None:
    tally = Tally.of(confusion(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 3))
    assert all(np.isnan(measure(tally)) for measure in FIGURES.values())


def test_stray_values_are_refused() -> None:
    with pytest.raises(ValueError, match="label 7"):
        confusion(np.zeros((2, 2), np.uint8), np.full((2, 2), 7, np.uint8), 3)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.uint8, np.uint16, np.int16, np.int64]),
    st.sampled_from([2, 300, 60000, 2**40]),
)
@settings(max_examples=60)
def test_joint_counts_are_exact_for_any_values(seed: int, dtype: type, high: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = max(-5, np.iinfo(dtype).min), min(high, int(np.iinfo(dtype).max))
    truth, predicted = rng.integers(low, high, (2, 6, 9)).astype(dtype)
    found = {(t, p): n for t, p, n in zip(*(a.tolist() for a in joint_counts(truth, predicted)), strict=True)}
    expected: dict[tuple[int, int], int] = {}
    for pair in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        expected[pair] = expected.get(pair, 0) + 1
    assert found == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strips_add_up(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predicted = (labels.astype(dtype) for labels in random_maps(3, 7, (40, 9)))
    whole = [array.tolist() for array in joint_counts(truth, predicted)]
    monkeypatch.setattr(confusion_module, "STRIP_PX", 30)
    assert [array.tolist() for array in joint_counts(truth, predicted)] == whole


def test_counts_do_not_overflow() -> None:
    huge = np.array([[2**40, 1], [0, 2**41]])
    assert measures.pixel_accuracy(Tally.of(huge)) == (2**40 + 2**41) / (2**40 + 1 + 2**41)
    assert abs(float(measures.kappa(Tally.of(huge)))) <= 1
