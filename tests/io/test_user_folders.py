"""The folders of a user, also of one without a home."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from fcnseg.io.user_folders import data_folder, engine_folder, temporary_home
from tests.conftest import Outcome


def lose_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user without a home, whose temporary files are in a folder of the test."""

    def no_home(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("FCNSEG_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("user_data_path", "user_cache_path"):
        monkeypatch.setattr(platformdirs, name, no_home)


def test_a_user_without_a_home_has_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_home(tmp_path, monkeypatch)
    home = tmp_path / f"fcnseg-{os.getuid()}"
    assert (data_folder(), engine_folder()) == (home, home / "engines")
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("taken", ["link", "open", "file"])
def test_a_temporary_home_that_somebody_else_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = tmp_path / f"fcnseg-{os.getuid()}"
    if taken == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        name.symlink_to(tmp_path / "elsewhere")
    elif taken == "open":
        name.mkdir()
        name.chmod(0o777)
    else:
        name.write_text("")
    folder = temporary_home()
    assert folder != name
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("command", [["models"], ["doctor", "--json"], ["engines", "list"], ["weights", "list"]])
def test_commands_work_for_a_user_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fcnseg: Callable[..., Outcome], command: list[str]
) -> None:
    lose_home(tmp_path, monkeypatch)
    done = fcnseg(*command)
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
