"""Classes chosen by name."""

import numpy as np
import pytest

from fcnseg.errors import SettingsError
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running.class_choice import keeping, labels_by_head, named_classes
from fcnseg.types import Prediction


def space(*names: str, ignore: int = 255) -> LabelSpace:
    return LabelSpace(names, tuple(voc_color(i % 256) for i in range(len(names))), ignore)


STREET = {"labels": space("road", "building, edifice", "edifice", "car")}
TWO = {"semantic": space("sky", "sea", "car"), "geometric": space("sky", "vertical")}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("car", ("car",)),
        ("car, road,car", ("car", "road")),
        ("building, edifice", ("building, edifice",)),
        ("edifice,building, edifice,car", ("edifice", "building, edifice", "car")),
        (["building, edifice", "car"], ("building, edifice", "car")),
    ],
)
def test_names_are_taken_apart(text: str | list[str], chosen: tuple[str, ...]) -> None:
    assert named_classes(text, STREET, "--mask") == chosen


@pytest.mark.parametrize(("text", "near"), [("raod", "road"), ("Car", "car"), ("car,bilding", "building, edifice")])
def test_a_name_that_is_none_is_refused_with_the_nearest(text: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"^--mask: the model has no class '.*'; did you mean {near}\\?$"):
        named_classes(text, STREET, "--mask")
    with pytest.raises(SettingsError, match="there are road, building, edifice, edifice and 1 more"):
        named_classes("qwertz", STREET, "--mask")
    with pytest.raises(SettingsError, match="no class ''"):
        named_classes("", STREET, "--mask")


def test_heads_have_the_classes_of_their_own() -> None:
    assert labels_by_head("sea", TWO, "") == {"semantic": (1,)}
    assert labels_by_head("sky,sea", TWO, "") == {"semantic": (0, 1), "geometric": (0,)}


def test_others_become_void_or_background_and_void_stays() -> None:
    labels = np.array([[0, 1, 2, 3, 255]], np.uint8)
    probabilities = {"labels": np.zeros((4, 1, 5), np.float32)}
    kept = keeping("car,road", STREET)(Prediction({"labels": labels}, probabilities))
    assert kept.labels["labels"].tolist() == [[0, 255, 255, 3, 255]]
    assert kept.labels["labels"].dtype == np.uint8
    assert kept.probabilities is probabilities
    voc = {"labels": space("background", "cat", "dog")}
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    assert keeping("dog", voc)(Prediction({"labels": labels})).labels["labels"].tolist() == [[0, 0, 2, 0]]
    many = {"labels": space(*map(str, range(300)), ignore=65535)}
    labels = np.array([[0, 299]], np.uint16)
    assert keeping("299", many)(Prediction({"labels": labels})).labels["labels"].tolist() == [[65535, 299]]
    assert keeping(None, many)(Prediction({"labels": labels})).labels["labels"] is labels


def test_heads_without_any_of_them_stay_as_they_are() -> None:
    labels = {"semantic": np.array([[0, 1]], np.uint8), "geometric": np.array([[0, 1]], np.uint8)}
    kept = keeping("sea", TWO)(Prediction(labels)).labels
    assert (kept["semantic"].tolist(), kept["geometric"].tolist()) == ([[255, 1]], [[0, 1]])


def test_void_that_label_maps_cannot_hold_is_refused() -> None:
    with pytest.raises(SettingsError, match="void is 65535"):
        keeping("a", {"labels": space("a", "b", ignore=65535)})
