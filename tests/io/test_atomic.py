from pathlib import Path

import pytest

from fcnseg.io.atomic import whole_file


def write_and_raise(path: Path, content: bytes, error: BaseException) -> None:
    with whole_file(path) as file:
        file.write(content)
        raise error


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(path, b"half", KeyboardInterrupt())
    assert list(path.parent.iterdir()) == []
    with whole_file(path) as file:
        file.write(b"first")
    with pytest.raises(RuntimeError):
        write_and_raise(path, b"second", RuntimeError())
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]
