from dataclasses import replace
from pathlib import Path

import pytest

from fcnseg.errors import RecipeError, UnknownModelError
from fcnseg.models import network_spec
from fcnseg.recipes import find_recipe, load_recipe, recipe_folder, recipe_names, recipe_toml

GOOD = """
name = "mine"
[architecture]
backbone = "vgg16"
stride = 8
[[streams]]
[[streams.inputs]]
modality = "color"
order = "bgr"
mean = [1, 2, 3]
[[heads]]
classes = ["a", "b"]
"""


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


CLASSES = {"voc": [21], "pascalcontext": [60], "nyud": [40], "siftflow": [33, 3], "street": [11]}


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_named_as_its_file(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert [h.labels.classes for h in recipe.heads] == CLASSES[name.split("-")[0]]
    assert all(len(set(h.labels.names)) == h.labels.classes for h in recipe.heads)
    network_spec(recipe)


def test_the_release_is_there_whole() -> None:
    names = set(recipe_names())
    assert {f"{d}-fcn{s}s" for d in ("voc", "pascalcontext", "siftflow") for s in (32, 16, 8)} <= names
    assert {f"nyud-fcn32s-{m}" for m in ("color", "hha", "color-d", "color-hha")} <= names
    assert {"voc-fcn8s-atonce", "voc-fcn-alexnet", "voc-fcn-googlenet", "street-fcn8s"} <= names


def test_a_users_own_file_works_by_path(tmp_path: Path) -> None:
    recipe = find_recipe(recipe_file(tmp_path, GOOD))
    assert (recipe.name, recipe.modalities, recipe.streams[0].channels) == ("mine", ("color",), 3)
    assert recipe.heads[0].labels.colors == ((0, 0, 0), (128, 0, 0))


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="did you mean voc-fcn8s"):
        find_recipe("voc-fcn8")
    with pytest.raises(UnknownModelError, match="fcnseg models"):
        find_recipe("zzz")
    with pytest.raises(UnknownModelError, match=r"no recipe file"):
        find_recipe("nowhere/mine.toml")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"vgg16"', '"vgg19"', r'architecture\.backbone: .*allowed is "vgg16" or "alexnet" or "googlenet"'),
        ("stride = 8", "stride = 4", r"architecture\.stride: 4; allowed is 8, 16 or 32"),
        ("stride = 8", "stride = true", r"architecture\.stride: True; allowed is 8, 16 or 32"),
        ("stride = 8", "strides = 8", r"architecture\.strides: unknown key; did you mean stride\?"),
        ("[1, 2, 3]", "[1, 2]", r"streams\.inputs\.mean: .*allowed is a list of 3 numbers"),
        ('"bgr"', '"gbr"', r'streams\.inputs\.order: .*allowed is "bgr" or "rgb"'),
        ('["a", "b"]', "[]", r"heads\.classes: \[\]; allowed is a list of at least one text"),
        ('"vgg16"', '"alexnet"', r"alexnet has no skip layers; allowed is 32"),
        ('["a", "b"]', '["a", "b"]\nignore = 1', r"heads\.ignore: 1 is a class"),
        ('["a", "b"]', '["a", "b"]\ncolors = [[1,2,3]]', r"heads\.colors: .*each of the 2 classes"),
        ('["a", "b"]', '["a"]\n[[heads]]\nclasses = ["b"]', r"heads\.suffix: .*not all different"),
        ('name = "mine"', 'dataset = "coco"', r"dataset: 'coco'; allowed is .*\"voc\" or \"pascalcontext\""),
        ("[[streams]]", "[[stream]]", r"streams: .*allowed is at least one table"),
        ('name = "mine"', 'name = "mine"\n[shapes]\nsmallest = [9, 9]\ntypical = [3, 3]', r"shapes\.typical"),
        ('name = "mine"', 'name = "mine"\n[shapes]\ntypical = 3', r"shapes\.typical: 3; allowed is \[height, width\]"),
    ],
)
def test_a_fault_names_file_key_and_what_is_allowed(tmp_path: Path, old: str, new: str, fault: str) -> None:
    path = recipe_file(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(RecipeError, match=fault) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, GOOD.replace("stride = 8", "stride = 7").replace('"bgr"', '"gbr"') + "extra = 1\n")
    with pytest.raises(RecipeError, match=r"stride.*order.*extra"):
        load_recipe(path)


def test_an_unknown_modality_is_the_only_fault_of_its_input(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file(tmp_path, GOOD.replace('"color"', '"colour"')))
    assert str(caught.value).endswith(
        'recipe: streams.inputs.modality: \'colour\'; allowed is "color" or "depth" or "hha"'
    )


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_written_is_what_was_read(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    path = tmp_path / "copy.toml"
    path.write_text(recipe_toml(recipe))
    bundled = tmp_path / recipe.bundled.name if recipe.bundled else None
    assert load_recipe(path) == replace(recipe, path=path, bundled=bundled)


def test_broken_toml_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read as TOML") as caught:
        load_recipe(recipe_file(tmp_path, "name = "))
    assert "\n" not in str(caught.value)


def test_recipes_are_data_beside_the_package() -> None:
    assert recipe_folder().is_dir()
