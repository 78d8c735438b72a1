"""`--help` of every command: its width, its style, and what it says to those who come from other tools."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import typer

from fcnseg.cli import foreign_options as foreign
from fcnseg.cli.app import COMMANDS, app
from fcnseg.engine.options import BACKENDS, PRECISIONS
from fcnseg.recipes import recipe_names
from tests.conftest import Outcome

Command = Callable[..., Outcome]
SUBCOMMANDS = {"engines": ("list", "rm", "verify"), "weights": ("import", "inspect", "pull", "list")}
PATHS = [[name, *more] for name in COMMANDS for more in ([[], *([s] for s in SUBCOMMANDS.get(name, ()))])]


@pytest.mark.parametrize("path", [[], *PATHS], ids=" ".join)
def test_help_has_the_width_of_the_terminal(fcnseg: Command, path: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    longest = {}
    for columns in (80, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        done = fcnseg(*path, "--help")
        assert done.code == 0
        longest[columns] = max(map(len, done.out.splitlines()))
        assert longest[columns] <= columns
    assert longest[140] > longest[80] or longest[80] < 78


@pytest.mark.parametrize("path", [[], *PATHS], ids=" ".join)
def test_values_are_in_capitals_or_are_the_values(fcnseg: Command, path: list[str]) -> None:
    text = fcnseg(*path, "--help").out
    assert not re.findall(r"<\w[\w \[\]]*>", text)  # Typer's own: <path>, <int range>
    assert not re.findall(r"\{\w+\}\s*$", text.splitlines()[0])
    assert "x>=" not in text
    assert "default: (" not in text


def test_the_list_of_commands_is_cut_nowhere(fcnseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    commands = fcnseg("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert len(commands.splitlines()) == len(COMMANDS)
    assert all(line.endswith(".") and "..." not in line for line in commands.splitlines())


def test_json_is_a_flag_wherever_it_is(fcnseg: Command) -> None:
    having = {" ".join(path) for path in PATHS if re.search(r"^  --json ", fcnseg(*path, "--help").out, re.MULTILINE)}
    assert having >= {"run", "status", "score", "diff", "bench", "doctor", "models", "train", "build-engine", "hha"}
    for name in having:
        line = next(x for x in fcnseg(*name.split(), "--help").out.splitlines() if x.startswith("  --json "))
        assert re.match(r"  --json +Print", line), name


def test_what_takes_long_can_say_more_and_log(fcnseg: Command) -> None:
    for name in ("run", "score", "diff", "train", "build-engine", "export", "bench", "hha"):
        text = fcnseg(name, "--help").out
        assert all(option in text for option in ("--quiet", "--verbose", "--json-logs")), name


# ---------------------------------------------------------------------- other tools


def commands() -> Iterator[tuple[str, set[str]]]:
    """Each command with the names it knows: options, and arguments by their names in its help."""
    from typer.main import get_command

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        known = {x for param in command.params for x in (*param.opts, *param.secondary_opts, param.metavar) if x}
        yield name, known


@pytest.mark.parametrize(("name", "known"), list(commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_answers_name_only_options_that_the_command_has(name: str, known: set[str]) -> None:
    for option in [*foreign.FOREIGN_OPTIONS, *foreign.ALIASES]:
        answer = foreign.answer_to_option(option, [option], known)
        outside = re.sub("`[^`]*`", "", answer)
        assert set(re.findall(r"(?<![\w-])--[a-z-]+", outside)) <= known, (name, option)
    assert set(foreign.ALIASES.values()) <= set(foreign.FOREIGN_OPTIONS)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["run", "photos", "-o", "m", "--batch", "4"], "use --batch-size N (-b N)"),
        (["run", "--source", "photos", "-o", "m"], "the argument SOURCE"),
        (["run", "photos", "-o", "m", "--imgsz", "640"], "never resized"),
        (["train", "street-fcn8s", "--imgsz", "640"], "use --crop WxH"),
        (["run", "photos", "-o", "m", "--save-txt"], "use --yolo DIR"),
        (["run", "photos", "-o", "m", "--gpu-id", "0"], "--device cuda"),
        (["run", "photos", "-o", "m", "--cpu"], "--device cpu"),
        (["run", "photos", "-o", "m", "--save_probabilities"], "it is written --save-probabilities"),
        (["run", "-i", "photos", "-o", "m"], "the argument SOURCE"),
        (["run", "photos", "-o", "m", "-npp", "3"], "--workers"),
        (["run", "photos", "-o", "m", "-num_parts", "3"], "use --num-parts N"),
        (["run", "photos", "--out-dir", "m"], "use --out DIR"),
        (["run", "photos", "-o", "m", "--overlys", "x"], "did you mean --overlay?"),
        (["run", "photos", "model=voc-fcn8s", "-o", "m"], "write --model voc-fcn8s"),
        (["run", "photos", "imgsz=640", "-o", "m"], "never resized"),
        (["score", "a", "b", "--json", "s.json"], "--json-file FILE writes a file"),
        (["predict", "photos"], "use `fcnseg run`"),
        (["benchmark"], "use `fcnseg bench`"),
        (["run", "photos", "-o", "m", "--qwertz"], "see `fcnseg run --help`"),
    ],
)
def test_habits_of_other_tools_are_answered(fcnseg: Command, words: list[str], answer: str) -> None:
    done = fcnseg(*words)
    assert (done.code, done.out) == (2, "")
    assert answer in done.error_line


def test_an_old_name_goes_on_working(fcnseg: Command) -> None:
    done = fcnseg("run", "nowhere", "--out", "m", "--continue")
    assert "now called --accept-changed-environment" in done.err
    assert "nowhere does not exist" in done.error_line
    assert "--continue" not in fcnseg("run", "--help").out


# ---------------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("run photos --model voc-", {n for n in recipe_names() if n.startswith("voc-")}),
        ("models str", {"street-fcn8s"}),
        ("build-engine pascal", {n for n in recipe_names() if n.startswith("pascal")}),
        ("run photos --backend ", {"auto", *BACKENDS}),
        ("run photos --precision ", {"auto", *PRECISIONS}),
        ("bench --engines openvino:f", {"openvino:fp32"}),
        ("train street-fcn8s --preset ", {"modern", "paper", "heavy"}),
    ],
)
def test_the_shell_completes(typed: str, expected: set[str]) -> None:
    env = {
        **os.environ,
        "_FCNSEG_COMPLETE": "complete_bash",
        "COMP_WORDS": f"fcnseg {typed}",
        "COMP_CWORD": str(len(typed.split(" "))),
    }
    program = "import sys; sys.argv = ['fcnseg']; from fcnseg.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected, done.stderr


def test_an_interruption_of_every_command_is_a_line() -> None:
    """Typer turns Ctrl-C into a silent exit."""
    commands = [command for command, _ in COMMANDS.values() if not isinstance(command, typer.Typer)]
    groups = [command for command, _ in COMMANDS.values() if isinstance(command, typer.Typer)]
    commands += [known.callback for group in groups for known in group.registered_commands if known.callback]
    assert [command.__name__ for command in commands if not hasattr(command, "__wrapped__")] == []
