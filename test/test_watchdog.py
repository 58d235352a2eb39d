"""The watchdog's judgement, whatever order frames are answered and failed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.errors import EngineError
from classaug_ros.node.watchdog import IN_A_ROW, LASTING, Watchdog


class Models:
    """Models that can be loaded anew, but for those whose files are gone."""

    def __init__(self, *, gone: bool = False) -> None:
        self.broken = ""
        self.gone = gone

    def give_up(self, why: str) -> None:
        self.broken = why

    def reload(self) -> None:
        if self.gone:
            raise EngineError("gone")
        self.broken = ""


@given(st.lists(st.integers(-15, 15), max_size=30), st.integers(0, 3))
def test_reloads_are_bounded_between_two_times_of_being_well(streaks: list[int], reloads: int) -> None:
    """Each number is so many frames answered, or failed where it is negative, one after the other."""
    models = Models()
    watchdog = Watchdog(models, reloads, lambda _: None)
    since_well = answered = failed = 0
    now = 0.0
    for frame in (number > 0 for number in streaks for _ in range(abs(number))):
        if watchdog.ended:
            break
        answered, failed = (answered + 1, 0) if frame else (0, failed + 1)
        before = watchdog.count
        now += LASTING * 2**reloads  # each frame takes long enough
        watchdog.answered() if frame else watchdog.failed("why", now)
        watchdog.mend()
        since_well = 0 if answered >= IN_A_ROW else since_well + watchdog.count - before
        if failed == IN_A_ROW:
            failed = 0
            assert (watchdog.count == before + 1) != bool(watchdog.ended)
        else:
            assert watchdog.count == before
        assert since_well <= reloads
        assert bool(watchdog.trouble) == (since_well > 0)


def test_models_given_up_before_are_loaded_at_the_start_for_nothing() -> None:
    models = Models()
    models.give_up("they hung")
    lines: list[str] = []
    watchdog = Watchdog(models, 0, lines.append)
    watchdog.start()
    assert (watchdog.count, watchdog.ended, models.broken) == (1, "", "")
    assert lines == ["loading the models anew: they hung"]
    assert watchdog.trouble == ""


def test_failures_that_pass_within_seconds_cost_no_reload_and_each_reload_is_given_more_time() -> None:
    models = Models()
    watchdog = Watchdog(models, 3, lambda _: None)
    start = 100.0
    for number in range(3):
        wait = LASTING * 2**number
        for frame in range(300):
            watchdog.failed("no memory", start + frame * wait / 300)
        assert models.broken == ""
        watchdog.failed("no memory", start + wait)
        assert models.broken == "301 frames failed one after the other, the last: no memory"
        watchdog.mend()
        assert watchdog.count == number + 1
        start += wait + 1


def test_models_that_cannot_be_loaded_are_the_end() -> None:
    models = Models(gone=True)
    watchdog = Watchdog(models, 3, lambda _: None)
    models.give_up("they hung")
    watchdog.mend()
    assert watchdog.ended == "the models cannot be loaded anew: gone"
