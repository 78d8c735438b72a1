import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.errors import RecipeError, SettingsError, UnknownModelError
from fcnseg.models import FCN, network_spec
from fcnseg.recipes import find_recipe, load_recipe, name_from, recipe_folder, recipe_names, recipe_toml

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


CLASSES = {"voc": [21], "pascalcontext": [60], "nyud": [40], "siftflow": [33, 3], "street": [11], "coco": [21]}


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


UNSAFE = [
    "../../x/labels", "/tmp/x", "..", ".", ".fcnseg", ".hidden", "a/b", "a\\b", "", " ", "a b", "-x", "x" * 65,
    "a\x00b", "\x1b[2J", "a\nb", "a\u202eb", "a\u0301", "ﬀ", "a:b", "~", "$HOME", "a\x9bb", "%2e%2e",
]  # fmt: skip

NAMED_FIELDS = {
    "name": ('name = "mine"', "name = {}"),
    "heads.name": ("[[heads]]", "[[heads]]\nname = {}"),
    "weights.file": ("[[heads]]", "[[weights]]\nfile = {}\n[[heads]]"),
}
EMPTY_ALLOWED = {
    "bundled": ('name = "mine"', 'name = "mine"\nbundled = {}'),
    "heads.suffix": ("[[heads]]", "[[heads]]\nsuffix = {}"),
    "streams.suffix": ("[[streams]]", "[[streams]]\nsuffix = {}"),
    "streams.first_layer": ("[[streams]]", "[[streams]]\nfirst_layer = {}"),
    "weights.url": ("[[heads]]", '[[weights]]\nfile = "x"\nurl = {}\n[[heads]]'),
    "weights.md5": ("[[heads]]", '[[weights]]\nfile = "x"\nmd5 = {}\n[[heads]]'),
    "weights.sha256": ("[[heads]]", '[[weights]]\nfile = "x"\nsha256 = {}\n[[heads]]'),
    "dataset": ('name = "mine"', 'name = "mine"\ndataset = {}'),
}
PRINTED_FIELDS = {
    "title": ('name = "mine"', 'name = "mine"\ntitle = {}'),
    "score": ('name = "mine"', 'name = "mine"\nscore = {}'),
    r"heads.classes[1]": ('["a", "b"]', '["a", {}]'),
}
UNPRINTABLE = [
    "\x1b[2J",
    "\x07",
    "a\rb",
    "a\nb",
    "\u202egnp",
    "\u2066x",
    "\x9b31m",
    "\u2028",
    "x" * 1001,
    "\x7f",
    "\ue000",
]


def with_field(folder: Path, place: tuple[str, str], value: str) -> Path:
    """A good recipe but for one field."""
    old, new = place
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML has no pairs of surrogates
    return recipe_file(folder, GOOD.replace(old, new.format(text), 1))


def refused(path: Path, field: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert f"{field}: " in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", UNSAFE)
@pytest.mark.parametrize("field", [*NAMED_FIELDS, *EMPTY_ALLOWED])
def test_what_becomes_a_path_or_a_layer_is_a_name(field: str, value: str, tmp_path: Path) -> None:
    allowed = not value or (value == "-x" and field.endswith("suffix"))
    if field in NAMED_FIELDS or not allowed:
        refused(with_field(tmp_path, {**NAMED_FIELDS, **EMPTY_ALLOWED}[field], value), field)


@pytest.mark.parametrize("value", UNPRINTABLE)
@pytest.mark.parametrize("field", PRINTED_FIELDS)
def test_what_is_printed_can_be_printed(field: str, value: str, tmp_path: Path) -> None:
    refused(with_field(tmp_path, PRINTED_FIELDS[field], value), field)


@pytest.mark.parametrize("place", ["[architecture]\n{} = 1", "[architecture.skip_scales]\n{} = 1\n[architecture]"])
def test_keys_are_shown_escaped(place: str, tmp_path: Path) -> None:
    path = recipe_file(tmp_path, GOOD.replace("[architecture]", place.format(json.dumps("\x1b[2J\n")), 1))
    refused(path, "\\x1b[2J\\n")


@given(st.sampled_from(sorted(NAMED_FIELDS | EMPTY_ALLOWED)), st.text(max_size=80))
def test_a_recipe_that_is_read_names_nothing_outside_its_folder(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = with_field(folder, {**NAMED_FIELDS, **EMPTY_ALLOWED}[field], value)
    try:
        recipe = load_recipe(path)
    except RecipeError:
        refused(path, field)
        return
    names = [recipe.name, *(h.name for h in recipe.heads), *(w.file for w in recipe.weights)]
    assert all((folder / name).parent == folder and not name.startswith(".") for name in names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) for name in names)
    assert recipe.bundled is None or recipe.bundled.parent == folder
    assert load_recipe(write(folder / "copy.toml", recipe_toml(recipe))).name == recipe.name


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@given(st.text())
def test_a_name_is_made_of_any_text_and_a_valid_one_stays(text: str) -> None:
    name = name_from(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", name)
    assert name_from(name) == name


def test_a_file_without_a_name_key_is_named_after_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "my model é.toml", GOOD.replace('name = "mine"\n', ""))
    assert load_recipe(path).name == "my-model"


@pytest.mark.parametrize(
    "names", [("a", "a"), ("Labels", "labels"), ("color", "b"), ("a", "a_probabilities"), ("depth", "hha")]
)
def test_heads_that_would_share_a_folder_or_a_name_in_the_graph(names: tuple[str, str], tmp_path: Path) -> None:
    heads = "".join(f'[[heads]]\nname = "{n}"\nsuffix = "_{i}"\nclasses = ["a"]\n' for i, n in enumerate(names))
    refused(recipe_file(tmp_path, GOOD.partition("[[heads]]")[0] + heads), "heads.name")


@pytest.mark.parametrize("first_layer", ["forward", "training", "conv1_2", "score_fr"])
def test_two_layers_of_one_name(first_layer: str, tmp_path: Path) -> None:
    recipe = load_recipe(with_field(tmp_path, EMPTY_ALLOWED["streams.first_layer"], first_layer))
    with pytest.raises(SettingsError, match=f"{first_layer} is the name of two layers"):
        FCN(network_spec(recipe))


def test_what_a_data_set_calls_its_classes_can_be_read_back(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, GOOD))
    labels = replace(recipe.heads[0].labels, names=("a\x1b[2J", "b" * 2000))
    odd = replace(recipe, heads=(replace(recipe.heads[0], labels=labels),), title="t\n")
    assert load_recipe(write(tmp_path / "w.toml", recipe_toml(odd))).heads[0].labels.names[0] == "a\\x1b[2J"


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        f"width = {'9' * 5000}",
        GOOD.replace("[1, 2, 3]", f"[1, 2, 0x{'f' * 9000}]"),
        GOOD.replace("stride = 8", f"stride = 0x{'f' * 9000}"),
        GOOD.replace("[1, 2, 3]", "[1, 2, nan]"),
        GOOD.replace("stride = 8", "stride = 8\nskip_scales = {pool4 = inf}"),
        'name = "\\u001b[2J" x',
    ],
)
def test_odd_toml_is_one_short_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file(tmp_path, text))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500 + len(str(tmp_path))
