"""The declared dependencies are those that the package imports."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.imports import ROOT, imported, modules

PYPROJECT = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
BASE = PYPROJECT["project"]["dependencies"]
EXTRAS = {
    name: [r for r in requirements if not r.startswith("fcnseg[")]  # those name other extras
    for name, requirements in PYPROJECT["project"]["optional-dependencies"].items()
}

REQUIREMENTS = [
    requirement
    for requirements in (BASE, *EXTRAS.values(), *PYPROJECT["dependency-groups"].values())
    for requirement in requirements
    if isinstance(requirement, str)
    and not requirement.startswith(("fcnseg[", "tensorrt>"))  # TensorRT is chosen by the GPU's driver
]

CHOSEN_BY_NAME = {"tensorrt", "tensorrt-rtx"}
"""Dependencies whose module is imported under a name from a table."""


def distribution(requirement: str) -> str:
    """The normalised name of a requirement: "PyYAML>=6" is of pyyaml."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def imported_distributions() -> dict[str, set[str]]:
    """The distributions that may have brought each third-party module that the package imports."""
    installed = packages_distributions()
    names = {name.split(".")[0] for path in modules().values() for name in imported(path)}
    third_party = names - sys.stdlib_module_names - {ROOT.name}
    return {name: {distribution(d) for d in installed.get(name, [name])} for name in third_party}


def test_each_imported_module_is_declared() -> None:
    declared = {distribution(r) for requirements in (BASE, *EXTRAS.values()) for r in requirements}
    assert [name for name, homes in imported_distributions().items() if not homes & declared] == []


def test_each_declared_dependency_is_imported() -> None:
    brought = set().union(*imported_distributions().values())
    declared = {distribution(r) for requirements in (BASE, *EXTRAS.values()) for r in requirements}
    assert declared - brought == CHOSEN_BY_NAME


def test_no_dependency_is_declared_twice() -> None:
    declared = [distribution(r) for requirements in (BASE, *EXTRAS.values()) for r in requirements]
    assert sorted(set(declared)) == sorted(declared)


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_each_dependency_is_pinned_to_a_tested_version(requirement: str) -> None:
    pinned = {distribution(pin) for pin in PYPROJECT["tool"]["uv"]["constraint-dependencies"]}
    assert distribution(requirement) in pinned
