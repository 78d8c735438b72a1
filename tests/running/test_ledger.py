import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fcnseg.errors import OutputError
from fcnseg.io.atomic import PART, PROCESS, write_whole
from fcnseg.running.claims import Owner, is_alive, remove_unfinished
from fcnseg.running.ledger import Ledger, Settled
from fcnseg.types import Failure


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite", tmp_path)


def settle(ledger: Ledger, key: str, content: bytes = b"labels") -> Path:
    output = write_whole(ledger.folder / f"{key}.png", [content])
    ledger.settle([Settled(key, "fingerprint", (output,))])
    return output.path


def test_an_input_is_claimed_once(ledger: Ledger) -> None:
    assert ledger.claim(["a", "b"], "one", {}) == ["a", "b"]
    assert ledger.claim(["b", "c"], "two", {}) == ["c"]
    seen = ledger.entries(["a", "b", "c", "d"])
    assert {key: (e.state, e.owner) for key, e in seen.items()} == {
        "a": ("claimed", "one"),
        "b": ("claimed", "one"),
        "c": ("claimed", "two"),
    }
    assert ledger.claim(["b"], "two", seen) == ["b"]  # taken over
    assert ledger.claim(["b"], "three", seen) == []  # the row has changed since it was seen
    assert ledger.entries(["b"])["b"].attempts == 2


def test_names_of_any_bytes_are_kept(ledger: Ledger) -> None:
    key = os.fsdecode(b"caf\xe9/new\nline.jpg")
    ledger.settle([Settled(key, "s", failure=Failure(key, "load", f"no {key}"))])
    assert list(ledger.entries([key])) == [key]
    (failure,) = ledger.failures()
    assert failure.key == key
    assert "\\xe9" in failure.reason


def test_what_is_not_settled_is_given_back(ledger: Ledger) -> None:
    ledger.claim(["a", "b"], "one", {})
    settle(ledger, "a")
    ledger.release("one")
    assert ledger.counts() == {"done": 1}


def test_more_rows_than_one_query_takes(ledger: Ledger) -> None:
    keys = [f"{i:05}" for i in range(2345)]
    ledger.settle([Settled(k, "s", failure=Failure(k, "load", "why")) for k in keys])
    assert len(ledger.entries(keys)) == 2345
    assert [f.key for f in ledger.failures()] == keys


@pytest.mark.parametrize("harm", ["none", "touched", "edited", "edited to the same size and time", "cut", "deleted"])
def test_an_output_is_believed_as_long_as_it_is_what_was_written(ledger: Ledger, harm: str) -> None:
    path = settle(ledger, "a")
    before = path.stat()
    if harm == "touched":
        os.utime(path)
    elif harm == "edited":
        path.write_bytes(b"other labels")
    elif harm == "edited to the same size and time":
        path.write_bytes(b"LABELS")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif harm == "cut":
        path.write_bytes(b"lab")
    elif harm == "deleted":
        path.unlink()
    (kept,) = ledger.entries(["a"])["a"].outputs
    assert kept.is_whole(ledger.folder) == (harm in ("none", "touched"))


def test_a_copied_folder_is_still_whole(ledger: Ledger, tmp_path: Path) -> None:
    path = settle(ledger, "sub/a")
    copy = tmp_path / "elsewhere"
    (copy / "sub").mkdir(parents=True)
    (copy / "sub/a.png").write_bytes(path.read_bytes())
    assert all(kept.is_whole(copy) for kept in ledger.entries(["sub/a"])["sub/a"].outputs)


def test_a_volume_stands_for_what_was_staged(ledger: Ledger, tmp_path: Path) -> None:
    staged = settle(ledger, "staging/a")
    ledger.note_volume(tmp_path / "staging", write_whole(tmp_path / "masks.h5", [b"all"]), "content")
    staged.unlink()
    outputs = ledger.entries(["staging/a"])["staging/a"].outputs
    assert ledger.is_whole(outputs, ledger.intact_volumes())
    (tmp_path / "masks.h5").write_bytes(b"al")
    assert not ledger.is_whole(outputs, ledger.intact_volumes())


def test_facts_are_agreed_on_by_the_first(ledger: Ledger) -> None:
    assert ledger.agree(settings={"a": 1}) == {"settings": {"a": 1}}
    assert ledger.agree(settings={"a": 2}) == {"settings": {"a": 1}}
    ledger.note(settings={"a": 3})
    assert ledger.fact("settings") == {"a": 3}
    assert ledger.fact("other") is None


def test_a_file_that_is_no_ledger_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 99)
    with pytest.raises(OutputError, match="cannot be used") as caught:
        Ledger(tmp_path / "x.sqlite", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.sqlite") as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(OutputError, match="another version"):
        Ledger(tmp_path / "x.sqlite", tmp_path)


def test_an_owner_lives_as_long_as_its_process(tmp_path: Path) -> None:
    with Owner(tmp_path) as owner:
        assert is_alive(tmp_path, owner.name)
    assert not is_alive(tmp_path, owner.name)
    script = (
        "import sys, time; from pathlib import Path; from fcnseg.running.claims import Owner\n"
        "with Owner(Path(sys.argv[1])) as owner: print(owner.name, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        name = other.stdout.readline().strip()
        assert is_alive(tmp_path, name)
        other.kill()
    assert not is_alive(tmp_path, name)
    assert not list(tmp_path.glob("*.lock"))


def test_only_the_dead_owners_unfinished_files_go(tmp_path: Path) -> None:
    for process in (PROCESS, "other"):
        (tmp_path / f"{PART}{process}-1-0").touch()
    remove_unfinished("other-0", {tmp_path, tmp_path / "never made"})
    assert [p.name for p in tmp_path.iterdir()] == [f"{PART}{PROCESS}-1-0"]


OPENING = """
import sys
from pathlib import Path
from fcnseg.running.ledger import Ledger
folder = Path(sys.argv[1])
sys.stdin.readline()
for i in range(40):
    with Ledger(folder / f"{i}.sqlite", folder) as ledger:
        ledger.agree(settings=1)
"""


def test_processes_that_open_one_new_ledger_at_once_wait_for_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENING, str(tmp_path)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert (child.returncode, errors) == (0, "")
