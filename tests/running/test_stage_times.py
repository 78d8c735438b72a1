from fcnseg.running.stage_times import ADVICE, StageClock, bottleneck
from fcnseg.types import StageTimes


def test_the_busiest_stage_is_the_bottleneck() -> None:
    times = {"decode": StageTimes(4, 10.0, 0.3), "predict": StageTimes(1, 6.0, 0.9), "write": StageTimes(4, 9.0, 0.2)}
    assert bottleneck(times) == ("predict", ADVICE["predict"])


def test_work_is_summed_over_threads_and_waiting_taken_back() -> None:
    clock = StageClock({"decode": 2, "write": 1})
    clock.add("decode", 3.0)
    clock.add("decode", -1.0)
    with clock("write"):
        pass
    times = clock.times()
    assert times["decode"].busy_seconds == 2.0
    assert 0 <= times["write"].utilisation <= 1
