"""The contract of `Ledger`, held by SQLite's and by that of a shard, which a manifest keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from fcnseg.io.buckets import open_store
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.sharded.manifest import ShardLedger
from fcnseg.running.sharded.places import Shard
from fcnseg.types import Failure, Ledger, RecordedOutput, Settled

OUTPUT = RecordedOutput("a.png", 12, "0123456789abcdef" * 2, 7)
Open = Callable[[], Ledger]


SHARD = Shard(1, 7)


@pytest.fixture(params=["sqlite", "shard"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens further handles of one ledger. That of a shard is for one process: there is nothing to open."""
    shard = ShardLedger(str(tmp_path), SHARD)
    with ExitStack() as stack:

        def handle() -> Ledger:
            if request.param == "shard":
                return shard
            return stack.enter_context(SqliteLedger(tmp_path / "ledger.sqlite", tmp_path))

        yield handle


def outlived(ledger: Ledger, tmp_path: Path) -> Ledger:
    """The ledger as a process finds it that begins when all others have ended."""
    if isinstance(ledger, ShardLedger):
        bucket = open_store(tmp_path)
        assert ledger.publish(bucket)
        assert not ledger.publish(bucket), "a manifest is put once"
        return ShardLedger.read(bucket, SHARD)
    assert isinstance(ledger, SqliteLedger)
    ledger.close()
    return SqliteLedger(tmp_path / "ledger.sqlite", tmp_path)


@pytest.fixture
def one(open_ledger: Open) -> Ledger:
    return open_ledger()


@pytest.fixture
def other(open_ledger: Open) -> Ledger:
    return open_ledger()


def test_an_input_is_claimed_by_one(one: Ledger, other: Ledger) -> None:
    with one.new_claimant() as mine, other.new_claimant() as theirs:
        assert mine != theirs
        assert one.claim(["a", "b"], mine, {}) == ["a", "b"]
        assert other.claim(["b", "c"], theirs, {}) == ["c"]
        assert one.in_flight() == other.in_flight() == {mine: ["a", "b"], theirs: ["c"]}
        rows = other.rows(["a", "c", "d"])
        assert {key: (row.state, row.claimant, row.attempts) for key, row in rows.items()} == {
            "a": ("claimed", mine, 1),
            "c": ("claimed", theirs, 1),
        }


def test_a_claim_is_taken_over_only_as_it_was_seen(one: Ledger, other: Ledger) -> None:
    one.claim(["a"], "dead", {})
    seen = one.rows(["a"])
    assert other.claim(["a"], "second", other.rows(["a"])) == ["a"]
    assert one.claim(["a"], "third", seen) == []
    assert one.rows(["a"])["a"][:3] == ("claimed", "second", 2)


def test_many_threads_claim_each_input_once(open_ledger: Open) -> None:
    keys = [f"{i:03}" for i in range(100)]
    claimed: list[str] = []

    def work(ledger: Ledger, name: str) -> None:
        for key in keys:
            claimed.extend(ledger.claim([key], name, {}))

    threads = [Thread(target=work, args=(open_ledger(), str(i))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == keys


def test_claimants_live_as_long_as_their_block(one: Ledger, other: Ledger) -> None:
    with one.new_claimant() as name:
        assert other.is_alive(name)
    assert not other.is_alive(name)
    assert not other.is_alive("never-there")


def test_ends_are_recorded(one: Ledger, other: Ledger) -> None:
    one.claim(["a", "b", "c"], "claimant", {})
    one.settle([Settled("a", "f1", (OUTPUT,)), Settled("b", "f2", failure=Failure("b", "load", "broken"))])
    rows = other.rows(["a", "b", "c"])
    assert (rows["a"].state, rows["a"].claimant, rows["a"].fingerprint) == ("done", None, "f1")
    assert [tuple(output) for output in rows["a"].outputs] == [OUTPUT]
    assert (rows["b"].state, rows["b"].stage, rows["b"].reason) == ("failed", "load", "broken")
    assert other.counts() == {"done": 1, "failed": 1, "claimed": 1}
    assert list(other.failures()) == [Failure("b", "load", "broken")]
    assert [list(outputs) for outputs in other.outputs()] == [[OUTPUT]]


def test_an_input_may_end_unclaimed_and_again(one: Ledger) -> None:
    one.settle([Settled("a", "", failure=Failure("a", "list", "why"))])
    assert one.claim(["a"], "claimant", one.rows(["a"])) == ["a"]
    assert (one.rows(["a"])["a"].attempts, list(one.rows(["a"])["a"].outputs)) == (1, [])
    one.settle([Settled("a", "f", (OUTPUT,))])
    assert (one.counts(), list(one.failures()), one.rows(["a"])["a"].attempts) == ({"done": 1}, [], 1)


def test_claims_that_are_not_settled_are_released(one: Ledger, other: Ledger) -> None:
    one.claim(["a", "b"], "claimant", {})
    other.claim(["c"], "another", {})
    one.settle([Settled("a", "f", (OUTPUT,))])
    one.release("claimant")
    assert other.rows(["a", "b", "c"]).keys() == {"a", "c"}
    assert other.claim(["b"], "another", {}) == ["b"]


def test_of_an_input_that_was_claimed_before_a_claim_is_not_forgotten(one: Ledger, other: Ledger) -> None:
    one.claim(["a"], "first", {})
    one.settle([Settled("a", "f", (OUTPUT,))])
    one.claim(["a"], "second", one.rows(["a"]))
    one.release("second")
    assert one.rows(["a"])["a"][:3] == ("claimed", "second", 2)  # a file of the first may be there
    assert not other.is_alive("second")
    assert other.claim(["a"], "third", other.rows(["a"])) == ["a"]


def test_failures_and_outputs_are_in_the_order_of_keys(one: Ledger) -> None:
    keys = [f"{i:04}" for i in range(1200)]
    one.settle([Settled(key, "f", failure=Failure(key, "load", "why")) for key in reversed(keys)])
    assert [failure.key for failure in one.failures()] == keys
    one.settle([Settled(key, "f", (OUTPUT._replace(path=key),)) for key in reversed(keys)])
    assert [output.path for (output,) in one.outputs()] == keys
    assert len(one.rows(keys)) == 1200


def test_keys_of_any_bytes_are_kept(one: Ledger, other: Ledger) -> None:
    key = os.fsdecode(b"caf\xe9/new\nline.jpg")
    one.claim([key], "claimant", {})
    one.settle([Settled(key, "f", failure=Failure(key, "load", f"no {key}"))])
    assert list(other.rows([key])) == [key]
    (failure,) = other.failures()
    assert (failure.key, "\\xe9" in failure.reason) == (key, True)


def test_facts_are_shared_and_agreed_on_by_the_first(one: Ledger, other: Ledger) -> None:
    assert one.fact("settings") is None
    assert one.agree(settings={"a": [1, None]}, machine="x") == {"settings": {"a": [1, None]}, "machine": "x"}
    assert other.agree(settings={"a": 2}) == {"settings": {"a": [1, None]}}
    other.note(settings={"a": 3}, more=None)
    assert (one.fact("settings"), one.fact("machine"), one.fact("more")) == ({"a": 3}, "x", None)


def test_paths_are_relative_to_a_folder(one: Ledger, tmp_path: Path) -> None:
    assert one.folder == str(tmp_path)


def test_ends_outlive_the_process(one: Ledger, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")
    two = (OUTPUT, OUTPUT._replace(path=os.fsdecode(b"head/caf\xe9.png"), size=1 << 40))
    one.claim(["a", "b", odd, "c"], "claimant", {})
    one.settle(
        [
            Settled("a", "f1", (OUTPUT,)),
            Settled("b", "", failure=Failure("b", "load", "broken")),
            Settled(odd, "f2", two),
        ]
    )
    one.release("claimant")
    later = outlived(one, tmp_path)
    rows = later.rows(["a", "b", "c", odd])
    assert {key: (row.state, row.stage, row.reason, row.fingerprint) for key, row in rows.items()} == {
        "a": ("done", "", "", "f1"),
        "b": ("failed", "load", "broken", ""),
        odd: ("done", "", "", "f2"),
    }
    assert [output[:3] for output in rows[odd].outputs] == [output[:3] for output in two]
    assert later.counts() == {"done": 2, "failed": 1}
    assert list(later.failures()) == [Failure("b", "load", "broken")]


def test_entries_are_those_of_the_last_time_an_input_was_done(one: Ledger, other: Ledger) -> None:
    one.settle(
        [Settled("a", "1", entries={"stats": b"\x00first", "shapes": b"x"}), Settled("b", "1", entries={"stats": b""})]
    )
    assert other.entries("stats", ["b", "a", "c"]) == {"a": b"\x00first", "b": b""}
    one.settle([Settled("a", "2", entries={"stats": b"second"}), Settled("b\udcff", "1")])
    assert other.entries("stats", ["a", "b\udcff"]) == {"a": b"second"}
    assert other.entries("shapes", ["a", "b"]) == {"a": b"x"}
    assert other.entries("nothing", ["a"]) == {}
