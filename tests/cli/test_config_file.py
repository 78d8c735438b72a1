"""`--config`: the options of a command from a file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome, TinyModel, photograph

Command = Callable[..., Outcome]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(3):
        photograph(tmp_path / f"photos/{i}.png", seed=i)
    return tmp_path / "photos"


def test_all_faults_of_a_file_are_reported_at_once_with_the_nearest_name(fcnseg: Command, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("strict = 1\nbatchsize = 2\nzzz = 3\n")
    done = fcnseg("run", tmp_path, "--out", tmp_path / "masks", "--config", file)
    assert done.code == 2
    line = done.error_line
    assert f"{file}: strict is 1; give true or false; batchsize is no option of" in line
    assert "did you mean batch-size?; zzz is no option of" in line
    assert line.endswith("see its --help")


def test_a_missing_file_says_so(fcnseg: Command, tmp_path: Path) -> None:
    done = fcnseg("run", tmp_path, "--out", tmp_path / "masks", "--config", tmp_path / "none.toml")
    assert (done.code, "none.toml cannot be read: No such file" in done.error_line) == (2, True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("model = ['a', 'b']", 'model is ["a", "b"]; give a text or a number'),
        ("batch-size = true", "batch-size is true"),
        ("workers = {a = 1}", "workers is"),
        ("strict = 'yes'", "strict is"),
        ("strict = 1", "give true or false"),
        ("verbose = true", "give a whole number"),
        ("workers = 1.5", "--workers"),
        ("config = 'other.toml'", "config is no option"),
        ("going_on = true", "going_on is no option"),
        ("o = 'x'", "o is no option"),
        ("version = true", "version is no option"),
    ],
)
def test_settings_of_a_wrong_type_or_name_are_one_line(fcnseg: Command, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "run.toml").write_text(f"{line}\n")
    done = fcnseg("run", tmp_path, "--out", tmp_path / "masks", "--config", tmp_path / "run.toml")
    assert (done.code, said in done.error_line) == (2, True), done.error_line


def test_settings_that_a_file_may_hold(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    lines = [f"SOURCE = {str(photos)!r}", f"model = {str(tiny.recipe)!r}", f"weights = {str(tiny.weights)!r}"]
    lines += ["backend = 'torch'", "max_failures = 3", "batch-size = '2'", "tile = 640", "quiet = true", "verbose = 1"]
    (tmp_path / "run.toml").write_text("\n".join(lines))
    done = fcnseg("run", "--out", tmp_path / "masks", "--config", tmp_path / "run.toml")
    assert done.code == 0, done.err
    score = tmp_path / "score.toml"
    for ignored in ("[0, 255]", "255"):
        score.write_text(f"preds = {str(tmp_path / 'masks')!r}\nignore = {ignored}\nclasses = 5\n")
        done = fcnseg("score", "--config", score, "--", tmp_path / "masks", tmp_path / "masks")
        assert done.code == 0, done.err
    score.write_text("ignore = [[1]]\n")
    assert "give texts or numbers" in fcnseg("score", "a", "b", "--config", score).error_line


def test_nesting_without_end_is_one_line(fcnseg: Command, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("strict = " + "[" * 100_000)
    done = fcnseg("run", tmp_path, "--out", tmp_path / "masks", "--config", file)
    assert (done.code, "cannot be read" in done.error_line) == (2, True)
