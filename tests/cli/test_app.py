import json
import subprocess
import sys
from collections.abc import Callable

import pytest

import fcnseg as package
from fcnseg.recipes import recipe_names
from tests.conftest import Outcome

Command = Callable[..., Outcome]


def test_version(fcnseg: Command) -> None:
    done = fcnseg("--version")
    assert (done.code, done.out) == (0, f"fcnseg {package.__version__}\n")


@pytest.mark.parametrize(
    "command", ["run", "build-engine", "engines", "export", "bench", "doctor", "models", "weights"]
)
def test_every_command_has_help(fcnseg: Command, command: str) -> None:
    assert command in fcnseg("--help").out
    done = fcnseg(command, "--help")
    assert done.code == 0
    assert "Usage" in done.out


def test_an_unknown_command_is_one_line(fcnseg: Command) -> None:
    done = fcnseg("segment")
    assert done.code == 2
    assert "segment" in done.error_line


def test_models_lists_every_recipe(fcnseg: Command) -> None:
    done = fcnseg("models", "--json")
    rows = json.loads(done.out)
    assert [row["name"] for row in rows] == recipe_names()
    assert {row["weights"] for row in rows} <= {"bundled", "stored", "absent"}
    table = fcnseg("models")
    assert all(name in table.out for name in recipe_names())


def test_the_console_command_is_installed() -> None:
    done = subprocess.run([sys.executable, "-m", "fcnseg", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fcnseg {package.__version__}\n"
