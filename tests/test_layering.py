"""Who may import whom, in any form; and the rules that every file keeps."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.imports import cycles, own_modules
from tests.imports import modules as modules_of

FOUNDATION = {"drawing", "errors", "labels", "plugins", "recipes", "texts", "toml_table", "types"}
COMPUTING = FOUNDATION | {"io", "models", "weights", "workers"}
ALLOWED = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    "io": FOUNDATION | {"io", "workers.limits"},
    "workers": FOUNDATION | {"workers"},
    "models": FOUNDATION | {"models"},
    "weights": FOUNDATION | {"io", "models", "weights"},
    "engine": COMPUTING | {"engine"},
    "running": COMPUTING | {"engine", "running"},
    "scoring": FOUNDATION | {"io", "workers", "scoring"},
    "training": COMPUTING | {"scoring", "training", "engine.hardware", "engine.runtimes.pytorch", "running.tile_grid"},
    "hha": FOUNDATION | {"io", "workers", "running", "hha"},
    "testing": FOUNDATION | {"io.plugin_source"},
    "__main__": {"cli"},
}
"""What the modules of each layer may import: layers, or single modules of them."""

ALLOWED["cli"] = set(ALLOWED) | {"cli"}

MODULES = {name: path for name, path in modules_of().items() if name != "fcnseg"}  # its names come when first used
IMPORTS = {name: own_modules(path) for name, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_each_layer_imports_only_what_lies_below(module: str) -> None:
    allowed = ALLOWED[module.split(".")[1]]
    foreign = [name for name in IMPORTS[module] if not _is_in(name.removeprefix("fcnseg."), allowed)]
    assert not foreign


def _is_in(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def test_no_modules_import_each_other() -> None:
    assert cycles(IMPORTS) == []


@pytest.mark.parametrize(
    ("statement", "module"),
    [
        ("import fcnseg.io.png", "fcnseg.io.png"),
        ("import fcnseg.io.png as png", "fcnseg.io.png"),
        ("from fcnseg import errors", "fcnseg.errors"),
        ("from fcnseg.io import png", "fcnseg.io.png"),
        ("from fcnseg.io.png import *", "fcnseg.io.png"),
        ("from . import sibling", "fcnseg.models.sibling"),
        ("from .sibling import name", "fcnseg.models.sibling"),
        ("from .. import errors", "fcnseg.errors"),
        ("from ..io.png import name", "fcnseg.io.png"),
        ("def f():\n    from fcnseg.io.png import name", "fcnseg.io.png"),
        ("if TYPE_CHECKING:\n    from fcnseg.io.png import name", "fcnseg.io.png"),
        ("importlib.import_module('fcnseg.io.png')", "fcnseg.io.png"),
        ("import_module('fcnseg.io.png')", "fcnseg.io.png"),
        ("from fcnseg import verb", "fcnseg.io.png"),
        ("import fcnseg\nfcnseg.verb()", "fcnseg.io.png"),
    ],
)
def test_every_form_of_import_is_seen(statement: str, module: str, tmp_path: Path) -> None:
    root = tmp_path / "fcnseg"
    for name in ("__init__", "errors", "io/__init__", "io/png", "models/__init__", "models/sibling"):
        (root / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text("")
    (root / "__init__.py").write_text("if TYPE_CHECKING:\n    from fcnseg.io.png import verb")
    file = root / "models" / "one.py"
    file.write_text(statement)
    assert own_modules(file, root) == {module}


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}) == [["b", "c"]]


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints_or_exits(module: str) -> None:
    text = MODULES[module].read_text()
    if module.startswith("fcnseg.cli") or "__main__" in text:
        pytest.skip("a command line")
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    assert not names & {"print", "exit", "quit"}
    assert not {"typer", "rich"} & set(text.replace(".", " ").split())


def test_no_two_classes_have_one_name() -> None:
    homes = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_begin_with_a_noun_or_an_imperative(module: str) -> None:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(MODULES[module].read_text())
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, nodes)]
    assert [text for text in docstrings if re.match(r"(What|Whether|How|Where)\b", text)] == []


@pytest.mark.parametrize("statement", ["import fcnseg", "from fcnseg.cli import main"])
def test_importing_is_light(statement: str) -> None:
    heavy = "torch", "torchvision", "numpy", "PIL", "h5py", "httpx"
    code = f"{statement}; import sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_sorted() -> None:
    import fcnseg

    assert fcnseg.__all__ == sorted(fcnseg.__all__)
    assert all(getattr(fcnseg, name) is not None for name in fcnseg.__all__)
