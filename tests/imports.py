"""The imports of a source tree, whatever their form, read from its text: `import`, `from`, relative, in functions, for
type checkers alone, and `import_module("...")`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "fcnseg"
ROOT = Path(__file__).parent.parent / PACKAGE


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The file of each module by its dotted name."""
    return {module_name(path, root): path for path in sorted(root.rglob("*.py"))}


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, root: Path = ROOT) -> set[str]:
    """The dotted names that a file imports: `from a import b` gives `a.b`."""
    tree = ast.parse(path.read_text())
    package = module_name(path, root) if path.name == "__init__.py" else module_name(path, root).rpartition(".")[0]
    return {name for node in ast.walk(tree) for name in _imported_by(node, package)}


def _imported_by(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        source = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (f"{source}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == PACKAGE:
        yield f"{PACKAGE}.{node.attr}"  # `import fcnseg`, then `fcnseg.run`


def own_modules(path: Path, root: Path = ROOT) -> set[str]:
    """The modules of the package that a file imports; public names count as the modules they come from."""
    known = modules(root)
    public = _public_names(root)
    targets = (public.get(name, name) for name in imported(path, root) if name.split(".")[0] == root.name)
    return {module for name in targets if (module := _module_of(name, known)) != root.name}


def _module_of(name: str, known: dict[str, Path]) -> str:
    """The module that a dotted name is, or lies in."""
    while name not in known:
        name = name.rpartition(".")[0]
    return name


def _public_names(root: Path) -> dict[str, str]:
    """The home of each name that the package's `__init__` offers: `fcnseg.run` is `fcnseg.running.run.run`."""
    names = imported(root / "__init__.py", root)
    return {f"{root.name}.{name.rpartition('.')[2]}": name for name in names if name.startswith(f"{root.name}.")}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or not."""
    reachable = {module: _reachable(module, graph) for module in graph}
    groups = {
        tuple(sorted(other for other in reachable[module] if module in reachable.get(other, ())))
        for module in graph
        if module in reachable[module]
    }
    return sorted(map(list, groups))


def _reachable(module: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(graph[module])
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            todo.extend(graph.get(name, ()))
    return seen
