"""Recipes: one TOML file says what a model is. `load_recipe` reads one and reports all its faults at once.

A recipe is data. It names an architecture, its inputs with their means and channel order, its heads with their
classes, where weights come from, and the range of image sizes an engine is built for.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fcnseg.errors import RecipeError, UnknownModelError
from fcnseg.labels import Color, LabelSpace, voc_color

T = TypeVar("T")

DEFAULT_MODEL = "street-fcn8s"
"""The model of every command that is not told one: the bundled one."""

MODALITIES = {"color": 3, "depth": 1, "hha": 3}
"""What an input may be, and its channels: RGB photographs, a depth map, an HHA encoding."""

ORDERS = {"color": ("bgr", "rgb"), "hha": ("as-stored",), "depth": ("log",)}
"""How each modality may reach the network: channel order, or for depth its natural logarithm."""

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
    """One trunk: the inputs that are stacked into it, its layers' suffix and its first layer's name if special."""

    inputs: tuple[Input, ...]
    suffix: str = ""
    first_layer: str | None = None

    @property
    def channels(self) -> int:
        """Channels of the stacked inputs."""
        return sum(MODALITIES[i.modality] for i in self.inputs)


@dataclass(frozen=True)
class HeadRecipe:
    """One label map that the model gives."""

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
    """A file that holds this model's weights: its name, address, size in MiB (rounded) and hash where known."""

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
    """What a model is. `path` is the file it was read from; `score` the published figure, with its source.

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

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs the model needs, e.g. ("color",) or ("color", "depth")."""
        return tuple(dict.fromkeys(i.modality for s in self.streams for i in s.inputs))


# ---------------------------------------------------------------------- finding


def recipe_folder() -> Path:
    """Where the shipped recipes lie: inside the wheel, or at the root of a source tree."""
    inside = Path(__file__).parent / "engines"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "engines"


def recipe_names() -> list[str]:
    """The names of the shipped recipes, sorted."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def find_recipe(model: str | Path) -> Recipe:
    """The shipped recipe of that name, or the user's own file: a path that ends in `.toml`.

    Raises UnknownModelError (with the nearest name) or RecipeError.
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


# ---------------------------------------------------------------------- reading


def load_recipe(path: Path) -> Recipe:
    """Read and check one recipe. Raises RecipeError that names the file and every fault in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {error}") from error
    faults: list[str] = []
    root = _Table(data, "", faults)
    recipe = Recipe(
        name=root.text("name", path.stem),
        title=root.text("title", ""),
        architecture=_architecture(root.table("architecture")),
        streams=tuple(_stream(t) for t in root.tables("streams")),
        heads=tuple(_head(t) for t in root.tables("heads")),
        weights=tuple(_source(t) for t in root.tables("weights", required=False)),
        bundled=_bundled(root, path),
        score=root.text("score", ""),
        shapes=_shapes(root.table("shapes", required=False)),
        path=path,
        dataset=root.choice("dataset", ("", *DATA_SETS), ""),
    )
    root.close()
    if not faults:
        _check_whole(recipe, faults)
    if faults:
        raise RecipeError(f"{path} is not a valid recipe: " + "; ".join(faults))
    return recipe


def _architecture(table: _Table) -> Architecture:
    skips = table.table("skip_scales", required=False)
    scales = {key: skips.number(key, 1.0, lambda v: v > 0, "a number above 0") for key in list(skips.data)}
    skips.close()
    return table.closed(
        Architecture(
            backbone=table.choice("backbone", ("vgg16", "alexnet", "googlenet")),
            stride=table.integer("stride", None, lambda v: v in (8, 16, 32), "8, 16 or 32"),
            geometry=table.choice("geometry", ("caffe", "same"), "caffe"),
            width=table.number("width", 1.0, lambda v: 0 < v <= 4, "a number above 0, at most 4"),
            fc_width=table.integer("fc_width", 4096, lambda v: 1 <= v <= 65536, "a whole number from 1 to 65536"),
            skip_scales=scales,
        )
    )


def _stream(table: _Table) -> StreamRecipe:
    inputs = tuple(_input(t) for t in table.tables("inputs"))
    first = table.text("first_layer", "") or None
    return table.closed(StreamRecipe(inputs, table.text("suffix", ""), first))


def _input(table: _Table) -> Input:
    modality = table.choice("modality", tuple(MODALITIES))
    order = table.choice("order", ORDERS.get(modality, ()))
    mean = table.numbers("mean", MODALITIES.get(modality, 0))
    return table.closed(Input(modality, order, mean))


def _head(table: _Table) -> HeadRecipe:
    names = table.texts("classes")
    colors = _colors(table, len(names))
    ignore = table.integer("ignore", 255, lambda v: 0 <= v <= 65535, "a label from 0 to 65535")
    if ignore < len(names):
        table.fault("ignore", f"{ignore} is a class", f"a label from {len(names)} up")
    labels = LabelSpace(names, colors, ignore)
    return table.closed(HeadRecipe(table.text("name", "labels"), labels, table.text("suffix", "")))


def _colors(table: _Table, classes: int) -> tuple[Color, ...]:
    value = table.take("colors", "voc")
    if value == "voc":
        return tuple(voc_color(i % 256) for i in range(classes))
    allowed = f'"voc", or one [red, green, blue] of 0..255 for each of the {classes} classes'
    well_formed = isinstance(value, list) and len(value) == classes and all(_is_color(c) for c in value)
    if not well_formed:
        table.fault("colors", f"{str(value)[:60]!r}", allowed)
        return ()
    return tuple((c[0], c[1], c[2]) for c in value)


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value)


def _source(table: _Table) -> WeightSource:
    return table.closed(
        WeightSource(
            file=table.text("file"),
            url=table.text("url", "") or None,
            size_mib=table.integer("size_mib", 0, lambda v: v >= 0, "a whole number") or None,
            md5=table.text("md5", "") or None,
            sha256=table.text("sha256", "") or None,
        )
    )


def _shapes(table: _Table) -> Shapes:
    default = Shapes()
    shapes = Shapes(
        table.size("smallest", default.smallest),
        table.size("typical", default.typical),
        table.size("largest", default.largest),
        table.integer("max_batch", default.max_batch, lambda v: v >= 1, "a whole number from 1"),
    )
    for axis in (0, 1):
        if not shapes.smallest[axis] <= shapes.typical[axis] <= shapes.largest[axis]:
            table.fault("typical", f"{list(shapes.typical)}", "sizes between smallest and largest")
            break
    return table.closed(shapes)


def _bundled(root: _Table, path: Path) -> Path | None:
    name = root.text("bundled", "")
    return path.parent / name if name else None


def _check_whole(recipe: Recipe, faults: list[str]) -> None:
    """What no single key shows."""
    architecture = recipe.architecture
    skips = {"vgg16": {16: ("pool4",), 8: ("pool4", "pool3")}}.get(architecture.backbone, {})
    if architecture.stride != 32 and architecture.stride not in skips:
        faults.append(f"architecture.stride: {architecture.backbone} has no skip layers; allowed is 32")
    unknown = set(architecture.skip_scales) - set(skips.get(architecture.stride, ()))
    faults.extend(
        f"architecture.skip_scales.{name}: this network has no such skip layer; leave it out"
        for name in sorted(unknown)
    )
    for what, items in (("streams", recipe.streams), ("heads", recipe.heads)):
        suffixes = [item.suffix for item in items]
        if len(set(suffixes)) < len(suffixes):
            faults.append(f"{what}.suffix: {suffixes} are not all different; give each its own")
    names = [head.name for head in recipe.heads]
    if len(set(names)) < len(names):
        faults.append(f"heads.name: {names} are not all different; give each its own")


class _Table:
    """One TOML table being read: takes its keys one by one, notes faults, and in the end what nobody took."""

    def __init__(self, data: dict[str, Any], where: str, faults: list[str]) -> None:
        self.data, self.where, self.faults, self.taken = data, where, faults, set[str]()

    def fault(self, key: str, found: str, allowed: str) -> None:
        self.faults.append(f"{self.where}{key}: {found}; allowed is {allowed}")

    def take(self, key: str, default: Any) -> Any:
        self.taken.add(key)
        return self.data.get(key, default)

    def closed(self, value: T) -> T:
        self.close()
        return value

    def close(self) -> None:
        for key in self.data.keys() - self.taken:
            near = difflib.get_close_matches(key, self.taken, n=1)
            self.faults.append(f"{self.where}{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))

    def _checked(self, key: str, default: Any, valid: Callable[[Any], bool], allowed: str, blank: Any) -> Any:
        value = self.take(key, default)
        if value is None:
            self.fault(key, "missing", allowed)
            return blank
        if not valid(value):
            self.fault(key, repr(value)[:60], allowed)
            return blank
        return value

    def text(self, key: str, default: str | None = None) -> str:
        return str(self._checked(key, default, lambda v: isinstance(v, str), "a text", ""))

    def texts(self, key: str) -> tuple[str, ...]:
        def valid(v: Any) -> bool:
            return isinstance(v, list) and 0 < len(v) <= 65535 and all(isinstance(i, str) for i in v)

        return tuple(self._checked(key, None, valid, "a list of at least one text", []))

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        allowed = " or ".join(f'"{o}"' for o in options) or "nothing"
        return str(self._checked(key, default, lambda v: v in options, allowed, ""))

    def integer(self, key: str, default: int | None, valid: Callable[[int], bool], allowed: str) -> int:
        return int(self._checked(key, default, lambda v: type(v) is int and valid(v), allowed, default or 0))

    def number(self, key: str, default: float, valid: Callable[[float], bool], allowed: str) -> float:
        return float(self._checked(key, default, lambda v: type(v) in (int, float) and valid(v), allowed, default))

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        def valid(v: Any) -> bool:
            return isinstance(v, list) and len(v) == count and all(type(i) in (int, float) for i in v)

        return tuple(float(v) for v in self._checked(key, None, valid, f"a list of {count} numbers", []))

    def size(self, key: str, default: tuple[int, int]) -> tuple[int, int]:
        def valid(v: Any) -> bool:
            return len(v) == 2 and all(type(i) is int and i >= 1 for i in v)

        value = self._checked(key, default, valid, "[height, width], whole numbers from 1", default)
        return int(value[0]), int(value[1])

    def table(self, key: str, required: bool = True) -> _Table:
        value = self._checked(key, None if required else {}, lambda v: isinstance(v, dict), f"a table [{key}]", {})
        return _Table(value, f"{self.where}{key}.", self.faults)

    def tables(self, key: str, required: bool = True) -> list[_Table]:
        def valid(v: Any) -> bool:
            return isinstance(v, list) and all(isinstance(i, dict) for i in v) and (bool(v) or not required)

        values = self._checked(key, None if required else [], valid, f"at least one table [[{key}]]", [])
        many = len(values) > 1
        return [_Table(v, f"{self.where}{key}{f'[{i}]' if many else ''}.", self.faults) for i, v in enumerate(values)]
