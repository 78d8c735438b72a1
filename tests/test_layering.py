"""Who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fcnseg"
FOUNDATION = {"errors", "labels", "recipes", "toml_table", "types"}
ALLOWED = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    "io": FOUNDATION | {"io"},
    "workers": FOUNDATION | {"workers"},
    "models": FOUNDATION | {"io", "models"},
    "weights": FOUNDATION | {"io", "models", "weights"},
    "engine": FOUNDATION | {"io", "models", "weights", "workers", "engine"},
    "running": FOUNDATION | {"io", "models", "weights", "engine", "running"},
    "scoring": FOUNDATION | {"io", "workers", "scoring"},
    "training": FOUNDATION | {"io", "models", "weights", "engine", "scoring", "workers", "training"},
    "hha": FOUNDATION | {"io", "hha"},
    "__main__": {"cli"},
}
ALLOWED["cli"] = set(ALLOWED) | {"cli"}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fcnseg."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fcnseg.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_each_layer_imports_only_what_lies_below(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if layer == "__init__":
        pytest.skip("the package's own names come from everywhere, when first used")
    assert imported(path) <= ALLOWED[layer], f"{path} imports {imported(path) - ALLOWED[layer]}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "cli" or "__main__" in path.read_text():
        pytest.skip("a command line")
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    names = {c.id for c in calls if isinstance(c, ast.Name)}
    assert not names & {"print", "exit", "quit"}
    assert not {"typer", "rich"} & set(path.read_text().replace(".", " ").split())


@pytest.mark.parametrize("statement", ["import fcnseg", "from fcnseg.cli import main"])
def test_importing_is_light(statement: str) -> None:
    heavy = "torch", "torchvision", "PIL", "h5py", "httpx"
    code = f"{statement}; import sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_sorted() -> None:
    import fcnseg

    assert fcnseg.__all__ == sorted(fcnseg.__all__)
    assert all(getattr(fcnseg, name) is not None for name in fcnseg.__all__)
