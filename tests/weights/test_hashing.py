import hashlib
import json
from pathlib import Path

import pytest

from fcnseg.errors import WeightsError
from fcnseg.io.user_folders import engine_folder
from fcnseg.weights import hashing
from fcnseg.weights.hashing import weights_sha256


def test_the_hash_is_remembered_by_other_processes_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"one")
    digest = weights_sha256(path)
    assert digest == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(hashing, "file_sha256", lambda path: pytest.fail("computed anew"))
        assert weights_sha256(path) == digest
    path.write_bytes(b"three")
    assert weights_sha256(path) == hashlib.sha256(b"three").hexdigest()


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "no JSON"])
def test_a_damaged_memory_is_replaced(tmp_path: Path, content: str) -> None:
    memory = engine_folder() / "weights.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(content)
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"one")
    digest = weights_sha256(path)
    assert json.loads(memory.read_text())[str(path.resolve())][-1] == digest


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    engine_folder().parent.mkdir(parents=True)
    engine_folder().write_text("a file where the folder should be")
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"one")
    assert weights_sha256(path) == hashlib.sha256(b"one").hexdigest()


def test_a_missing_file_is_a_weights_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read: No such file"):
        weights_sha256(tmp_path / "none")
