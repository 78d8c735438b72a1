import queue

from fcnseg.running.recording import COMMIT_IMAGES, groups
from fcnseg.types import Settled


def test_what_ended_at_once_is_recorded_together() -> None:
    ended: queue.SimpleQueue[Settled | None] = queue.SimpleQueue()
    for i in range(COMMIT_IMAGES + 6):
        ended.put(Settled(str(i), "f"))
    ended.put(None)
    found = list(groups(ended))
    assert [len(group) for group in found] == [COMMIT_IMAGES, 6]
    assert [settled.key for group in found for settled in group] == [str(i) for i in range(COMMIT_IMAGES + 6)]


def test_no_group_is_empty() -> None:
    ended: queue.SimpleQueue[Settled | None] = queue.SimpleQueue()
    ended.put(None)
    assert list(groups(ended)) == []
