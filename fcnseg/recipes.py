"""Recipes: one TOML file defines a model. They are read here, with all their faults at once, and written here.

A recipe names an architecture, its inputs with their means and channel order, its heads with their classes, the
sources of its weights, and the range of image sizes an engine is built for.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fcnseg.errors import RecipeError, UnknownModelError
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.texts import read_text
from fcnseg.toml_table import TEXT_LENGTH, TomlTable, printable

DEFAULT_MODEL = "street-fcn8s"
"""The model that commands and functions take unless another is named: it comes with the package."""

MODALITIES = {"color": 3, "depth": 1, "hha": 3}
"""The kinds of input, and their channels: RGB photographs, depth maps, HHA encodings."""

ORDERS = {"color": ("bgr", "rgb"), "hha": ("as-stored",), "depth": ("log",)}
"""The forms in which each modality may reach the network: channel order, or for depth its natural logarithm."""

RESNETS = ("resnet50", "resnet101")
"""Backbones whose networks have one stride and geometry."""

NAME_LENGTH = 64

_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}")
_NAME_RULE = f"up to {NAME_LENGTH} of the letters a-z and A-Z, digits, -, _ and ., the first none of - and ."

# Names of layers are attributes of a torch module, which hold no dot.
_LAYER = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{NAME_LENGTH - 1}}}")
_LAYER_RULE = f"up to {NAME_LENGTH} of the letters a-z and A-Z, digits, - and _, the first a letter or _"
_SUFFIX = re.compile(rf"[A-Za-z0-9_-]{{0,{NAME_LENGTH}}}")
_SUFFIX_RULE = f"up to {NAME_LENGTH} of the letters a-z and A-Z, digits, - and _"

_URL = re.compile(r"https?://[!-~]{1,2000}", re.IGNORECASE)

DATA_SETS = ("voc", "pascalcontext", "nyud", "siftflow", "camvid")
"""Data sets whose conventions the classes of a recipe may follow: see `fcnseg.io.conventions`."""


@dataclass(frozen=True)
class Input:
    """One input image of a model: a modality, its order, and the mean that is subtracted (in that order)."""

    modality: str
    order: str
    mean: tuple[float, ...]


@dataclass(frozen=True)
class StreamRecipe:
    """One trunk: the inputs stacked into it, its layers' suffix, and its first layer's name if that differs."""

    inputs: tuple[Input, ...]
    suffix: str = ""
    first_layer: str | None = None

    @property
    def channels(self) -> int:
        """The number of channels of the stacked inputs."""
        return sum(MODALITIES[i.modality] for i in self.inputs)


@dataclass(frozen=True)
class HeadRecipe:
    """One label map of the model's output."""

    name: str
    labels: LabelSpace
    suffix: str = ""


@dataclass(frozen=True)
class Architecture:
    """The network: see `fcnseg.models.spec.NetworkSpec`, whose fields these are."""

    backbone: str
    stride: int
    geometry: str = "caffe"
    width: float = 1.0
    fc_width: int = 4096
    skip_scales: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightSource:
    """A file of this model's weights: its name, and where known its URL, size (rounded) and hashes."""

    file: str
    url: str | None = None
    size_mib: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Shapes:
    """The sizes (height, width) and batch an engine is built for."""

    smallest: tuple[int, int] = (1, 1)
    typical: tuple[int, int] = (375, 500)
    largest: tuple[int, int] = (1024, 1024)
    max_batch: int = 8


@dataclass(frozen=True)
class Recipe:
    """A model's definition. `path` is the file it was read from, `score` the published figure with its source.

    `license` is that of the weights, in words; "" if nobody stated one.
    `dataset` is one of DATA_SETS, whose conventions (exclusions, training schedule) the classes follow; "" if none.
    """

    name: str
    title: str
    architecture: Architecture
    streams: tuple[StreamRecipe, ...]
    heads: tuple[HeadRecipe, ...]
    weights: tuple[WeightSource, ...]
    bundled: Path | None
    score: str
    shapes: Shapes
    path: Path
    dataset: str = ""
    license: str = ""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the model's inputs, e.g. ("color",) or ("color", "depth")."""
        return tuple(dict.fromkeys(i.modality for s in self.streams for i in s.inputs))


# ---------------------------------------------------------------------- finding


def recipe_folder() -> Path:
    """Return the folder of the shipped recipes: inside the wheel, or at the root of a source tree."""
    inside = Path(__file__).parent / "engines"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "engines"


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes, sorted.

    >>> import fcnseg
    >>> fcnseg.recipe_names()[-1]
    'voc-fcn8s-atonce'
    """
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def find_recipe(model: str | Path) -> Recipe:
    """Return the shipped recipe of that name, or read the user's own file: a path that ends in `.toml`.

    Raises UnknownModelError (with the nearest name) or RecipeError.

    >>> import fcnseg
    >>> fcnseg.find_recipe("voc-fcn8s").heads[0].labels.names[:3]
    ('background', 'aeroplane', 'bicycle')
    """
    if str(model).endswith(".toml"):
        if not Path(model).is_file():
            raise UnknownModelError(f"there is no recipe file {model}; check the path")
        return load_recipe(Path(model))
    names = recipe_names()
    if str(model) in names:
        return load_recipe(recipe_folder() / f"{model}.toml")
    near = difflib.get_close_matches(str(model), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "`fcnseg models` lists them"
    raise UnknownModelError(f"there is no model named {str(model)!r}; {hint}")


def name_from(text: str) -> str:
    """Return the nearest valid name for a recipe: `my photos/` gives `my-photos`. A valid name stays."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-.")[:NAME_LENGTH].rstrip("-") or "model"


# ---------------------------------------------------------------------- reading


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file. Raises RecipeError that names the file and every fault in it."""
    try:
        table = TomlTable(tomllib.loads(read_text(path)))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {printable(str(error))}") from error
    bundled = table.text("bundled", "", _or_empty(_NAME), f"a file beside the recipe, named by {_NAME_RULE}")
    recipe = Recipe(
        name=_name(table, "name", name_from(path.stem)),
        title=table.text("title", ""),
        architecture=_architecture(table.table("architecture")),
        streams=tuple(map(_stream, table.tables("streams"))),
        heads=tuple(map(_head, table.tables("heads"))),
        weights=tuple(map(_weight_source, table.tables("weights", required=False))),
        bundled=path.parent / bundled if bundled else None,
        score=table.text("score", ""),
        shapes=_shapes(table.table("shapes", required=False)),
        path=path,
        dataset=table.choice("dataset", ("", *DATA_SETS), ""),
        license=table.text("license", ""),
    )
    faults = table.faults or _faults_between_tables(recipe)
    if faults:
        raise RecipeError(f"{path} is not a valid recipe: " + "; ".join(faults))
    return recipe


def _name(table: TomlTable, key: str, default: str | None = None) -> str:
    """A name: it becomes part of paths, and is printed."""
    return table.text(key, default, lambda v: _NAME.fullmatch(v) is not None, _NAME_RULE)


def _or_empty(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: not text or pattern.fullmatch(text) is not None


def _architecture(table: TomlTable) -> Architecture:
    scales = table.table("skip_scales", required=False)
    return Architecture(
        backbone=table.choice("backbone", ("vgg16", "alexnet", "googlenet", *RESNETS)),
        stride=table.integer("stride", lambda v: v in (8, 16, 32), "8, 16 or 32"),
        geometry=table.choice("geometry", ("caffe", "same"), "caffe"),
        width=table.number("width", lambda v: 0 < v <= 4, "a number above 0, at most 4", 1.0),
        fc_width=table.integer("fc_width", lambda v: 1 <= v <= 65536, "a whole number from 1 to 65536", 4096),
        skip_scales={key: scales.number(key, lambda v: v > 0, "a number above 0", 1.0) for key in scales.data},
    )


def _stream(table: TomlTable) -> StreamRecipe:
    inputs = tuple(map(_input, table.tables("inputs")))
    first_layer = table.text("first_layer", "", _or_empty(_LAYER), _LAYER_RULE) or None
    return StreamRecipe(inputs, _suffix(table), first_layer)


def _suffix(table: TomlTable) -> str:
    return table.text("suffix", "", lambda v: _SUFFIX.fullmatch(v) is not None, _SUFFIX_RULE)


def _input(table: TomlTable) -> Input:
    modality = table.choice("modality", tuple(MODALITIES)) or "color"
    return Input(modality, table.choice("order", ORDERS[modality]), table.numbers("mean", MODALITIES[modality]))


def _head(table: TomlTable) -> HeadRecipe:
    names = table.texts("classes")
    ignore = table.integer("ignore", lambda v: 0 <= v <= 65535, "a label from 0 to 65535", 255)
    if ignore < len(names):
        table.fault("ignore", f"{ignore} is a class", f"a label from {len(names)} up")
    labels = LabelSpace(names, _colors(table, len(names)), ignore)
    return HeadRecipe(_name(table, "name", "labels"), labels, _suffix(table))


def _colors(table: TomlTable, classes: int) -> tuple[Color, ...]:
    def valid(value: Any) -> bool:
        return value == "voc" or (isinstance(value, list) and len(value) == classes and all(map(_is_color, value)))

    allowed = f'"voc", or one [red, green, blue] of 0..255 for each of the {classes} classes'
    colors = table.value("colors", valid, allowed, "voc", [])
    return tuple(voc_color(i % 256) for i in range(classes)) if colors == "voc" else tuple(map(tuple, colors))


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value)


def _weight_source(table: TomlTable) -> WeightSource:
    return WeightSource(
        file=_name(table, "file"),
        url=table.text("url", "", _or_empty(_URL), "http://... or https://... in printable ASCII without spaces")
        or None,
        size_mib=table.integer("size_mib", lambda v: v >= 0, "a whole number", 0) or None,
        md5=_digest(table, "md5", 32),
        sha256=_digest(table, "sha256", 64),
    )


def _digest(table: TomlTable, key: str, digits: int) -> str | None:
    pattern = re.compile(rf"[0-9a-fA-F]{{{digits}}}")
    return table.text(key, "", _or_empty(pattern), f"{digits} hexadecimal digits").lower() or None


def _shapes(table: TomlTable) -> Shapes:
    smallest, typical, largest = (_size(table, key, getattr(Shapes, key)) for key in ("smallest", "typical", "largest"))
    if not all(low <= middle <= high for low, middle, high in zip(smallest, typical, largest, strict=True)):
        table.fault("typical", f"{list(typical)}", "sizes between smallest and largest")
    max_batch = table.integer("max_batch", lambda v: v >= 1, "a whole number from 1", Shapes.max_batch)
    return Shapes(smallest, typical, largest, max_batch)


def _size(table: TomlTable, key: str, default: tuple[int, int]) -> tuple[int, int]:
    def valid(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(type(side) is int and side >= 1 for side in value)

    height, width = table.value(key, valid, "[height, width], whole numbers from 1", list(default), default)
    return height, width


def _faults_between_tables(recipe: Recipe) -> list[str]:
    """The faults that no table shows alone."""
    architecture, faults = recipe.architecture, []
    skips = {"vgg16": {16: ("pool4",), 8: ("pool4", "pool3")}}.get(architecture.backbone, {})
    if architecture.backbone in RESNETS:
        if (architecture.stride, architecture.geometry) != (8, "same"):
            faults.append(f'architecture: {architecture.backbone} is of stride 8 and geometry "same"; give these')
    elif architecture.stride != 32 and architecture.stride not in skips:
        faults.append(f"architecture.stride: {architecture.backbone} has no skip layers; allowed is 32")
    faults += [
        f"architecture.skip_scales.{printable(name)}: this network has no such skip layer; leave it out"
        for name in sorted(set(architecture.skip_scales) - set(skips.get(architecture.stride, ())))
    ]
    unique = {
        "streams.suffix": [stream.suffix for stream in recipe.streams],
        "heads.suffix": [head.suffix for head in recipe.heads],
    }
    faults += [
        f"{key}: {values} are not all different; give each its own"
        for key, values in unique.items()
        if len(set(values)) < len(values)
    ]
    return faults + _faults_of_head_names([head.name for head in recipe.heads])


def _faults_of_head_names(names: list[str]) -> list[str]:
    """Heads that would share a folder, also where file systems ignore case, or a name in the graph."""
    faults = []
    if len({name.casefold() for name in names}) < len(names):
        faults.append(f"heads.name: {names} are not all different, apart from case; give each its own")
    taken = {*MODALITIES, *(f"{name}_probabilities" for name in names)}
    faults += [
        f"heads.name: {name!r} is also an input or the probabilities of the network; give it another"
        for name in names
        if name in taken
    ]
    return faults


# ---------------------------------------------------------------------- writing


def recipe_toml(recipe: Recipe) -> str:
    """Return a recipe as the TOML text that `load_recipe` reads; its `bundled` weights lie beside the file."""
    import tomli_w  # only training writes recipes

    return tomli_w.dumps(
        {
            "name": recipe.name,
            "title": _text(recipe.title),
            **({"dataset": recipe.dataset} if recipe.dataset else {}),
            "score": _text(recipe.score),
            **({"license": _text(recipe.license)} if recipe.license else {}),
            **({"bundled": recipe.bundled.name} if recipe.bundled else {}),
            "architecture": _without_empty(recipe.architecture),
            "streams": [
                {"suffix": stream.suffix, **_without_empty(stream), "inputs": [asdict(i) for i in stream.inputs]}
                for stream in recipe.streams
            ],
            "heads": [
                {
                    "name": head.name,
                    "suffix": head.suffix,
                    "classes": [_text(name) for name in head.labels.names],
                    "colors": head.labels.colors,
                    "ignore": head.labels.ignore,
                }
                for head in recipe.heads
            ],
            "shapes": asdict(recipe.shapes),
            **({"weights": [_without_empty(source) for source in recipe.weights]} if recipe.weights else {}),
        }
    )


def _text(text: str) -> str:
    """A text that can be read back, whatever the class names of a data set hold."""
    return printable(text)[:TEXT_LENGTH]


def _without_empty(table: Architecture | StreamRecipe | WeightSource) -> dict[str, Any]:
    return {key: value for key, value in asdict(table).items() if value}
