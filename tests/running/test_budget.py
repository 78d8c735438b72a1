import threading

import pytest

from fcnseg.running.budget import Budget, Stopped


def waiting_for(budget: Budget, nbytes: int) -> tuple[threading.Thread, list[bool]]:
    """A thread that takes room, and whether it was given or refused."""
    given: list[bool] = []

    def take() -> None:
        try:
            budget.take(nbytes)
        except Stopped:
            given.append(False)
        else:
            given.append(True)

    thread = threading.Thread(target=take)
    thread.start()
    return thread, given


@pytest.mark.parametrize("limits", [(100, 10), (1000, 1)])
def test_an_item_waits_until_there_is_room(limits: tuple[int, int]) -> None:
    budget = Budget(*limits)
    budget.take(60)
    thread, given = waiting_for(budget, 60)
    thread.join(0.05)
    assert given == []
    budget.give_back(60)
    thread.join(10)
    assert given == [True]


def test_part_of_an_item_is_given_back() -> None:
    budget = Budget(100, 10)
    budget.take(90)
    thread, given = waiting_for(budget, 60)
    budget.give_back_part(50)
    thread.join(10)
    assert given == [True]


def test_an_item_alone_is_always_let_in() -> None:
    Budget(10, 1).take(1000)


def test_stopping_ends_all_waiting() -> None:
    budget = Budget(10, 1)
    budget.take(5)
    thread, given = waiting_for(budget, 5)
    budget.stop()
    thread.join(10)
    assert given == [False]
    with pytest.raises(Stopped):
        budget.take(1)
