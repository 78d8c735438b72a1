"""The examples, as they are typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALLER = {"--count 40": "--count 8", "--epochs 10": "--steps 2 --crop 96x96"}


@pytest.mark.slow
def test_train_your_own_works_to_the_letter(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = re.findall(r"^    (\S.*)$", (ROOT / "examples" / "train_your_own.md").read_text(), re.MULTILINE)
    assert [line.split()[0] for line in commands] == ["python", "printf", "fcnseg", "fcnseg", "fcnseg"]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in commands:
        for said, less in SMALLER.items():
            line = line.replace(said, less)
        done = subprocess.run(
            line,
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": tools},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert "mean IoU" in done.stdout
    assert (tmp_path / "runs" / "report.html").exists()
