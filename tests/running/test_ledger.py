import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fcnseg.errors import OutputError
from fcnseg.running.ledger import SqliteLedger
from fcnseg.types import Failure, Settled


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "ledger.sqlite", tmp_path)


def test_an_input_is_claimed_once(ledger: SqliteLedger) -> None:
    assert ledger.claim(["a", "b"], "one", {}) == ["a", "b"]
    assert ledger.claim(["b", "c"], "two", {}) == ["c"]
    seen = ledger.rows(["a", "b", "c", "d"])
    assert {key: (e.state, e.claimant) for key, e in seen.items()} == {
        "a": ("claimed", "one"),
        "b": ("claimed", "one"),
        "c": ("claimed", "two"),
    }
    assert ledger.claim(["b"], "two", seen) == ["b"]  # taken over
    assert ledger.claim(["b"], "three", seen) == []  # the row has changed since it was seen
    assert ledger.rows(["b"])["b"].attempts == 2


def test_names_of_any_bytes_are_kept(ledger: SqliteLedger) -> None:
    key = os.fsdecode(b"caf\xe9/new\nline.jpg")
    ledger.settle([Settled(key, "s", failure=Failure(key, "load", f"no {key}"))])
    assert list(ledger.rows([key])) == [key]
    (failure,) = ledger.failures()
    assert failure.key == key
    assert "\\xe9" in failure.reason


def test_what_is_not_settled_is_given_back(ledger: SqliteLedger) -> None:
    ledger.claim(["a", "b"], "one", {})
    ledger.settle([Settled("a", "fingerprint")])
    ledger.release("one")
    assert ledger.counts() == {"done": 1}


def test_more_rows_than_one_query_takes(ledger: SqliteLedger) -> None:
    keys = [f"{i:05}" for i in range(2345)]
    ledger.settle([Settled(k, "s", failure=Failure(k, "load", "why")) for k in keys])
    assert len(ledger.rows(keys)) == 2345
    assert [f.key for f in ledger.failures()] == keys


def test_facts_are_agreed_on_by_the_first(ledger: SqliteLedger) -> None:
    assert ledger.agree(settings={"a": 1}) == {"settings": {"a": 1}}
    assert ledger.agree(settings={"a": 2}) == {"settings": {"a": 1}}
    ledger.note(settings={"a": 3})
    assert ledger.fact("settings") == {"a": 3}
    assert ledger.fact("other") is None


def test_a_file_that_is_no_ledger_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 99)
    with pytest.raises(OutputError, match="cannot be used") as caught:
        SqliteLedger(tmp_path / "x.sqlite", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.sqlite") as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(OutputError, match="another version"):
        SqliteLedger(tmp_path / "x.sqlite", tmp_path)


OPENING = """
import sys
from pathlib import Path
from fcnseg.running.ledger import SqliteLedger
folder = Path(sys.argv[1])
sys.stdin.readline()
for i in range(40):
    with SqliteLedger(folder / f"{i}.sqlite", folder) as ledger:
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
