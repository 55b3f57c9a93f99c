"""When an upstream that fails is left alone, and how it comes back."""

from deltaserve.server.upstream.pool.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(failures=3, clock=clock)
    for _ in range(3):
        breaker.failed(trial=breaker.begin())
    return breaker, clock


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=3)
    for _ in range(5):
        breaker.failed(trial=breaker.begin())
        breaker.failed(trial=breaker.begin())
        breaker.succeeded()
    assert breaker.closed and breaker.wait_s == 0.0
    assert not opened()[0].closed


def test_after_the_pause_one_call_decides_and_the_others_wait_for_it() -> None:
    breaker, clock = opened()
    assert breaker.wait_s == 0.5
    clock.now = 0.6
    assert breaker.wait_s == 0.0
    assert breaker.begin() is True
    assert breaker.wait_s > 0.0
    breaker.succeeded()
    assert breaker.closed and breaker.wait_s == 0.0


def test_each_failed_trial_doubles_the_pause_up_to_a_bound() -> None:
    breaker, clock = opened()
    pauses = []
    for _ in range(6):
        clock.now += breaker.wait_s
        breaker.failed(trial=breaker.begin())
        pauses.append(breaker.wait_s)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert breaker.opened == 7


def test_calls_that_began_before_it_opened_do_not_make_the_pause_longer() -> None:
    breaker, _ = opened()
    for _ in range(10):
        breaker.failed(trial=False)
    assert breaker.wait_s == 0.5


def test_a_trial_whose_caller_left_lets_another_one_try() -> None:
    breaker, clock = opened()
    clock.now = 1.0
    assert breaker.begin()
    breaker.abandoned(trial=True)
    assert breaker.wait_s == 0.0


def test_it_forgets_how_long_it_was_open_when_all_is_well() -> None:
    breaker, clock = opened()
    clock.now += breaker.wait_s
    breaker.failed(trial=breaker.begin())
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(trial=breaker.begin())
    assert breaker.wait_s == 0.5


def test_a_pause_that_is_over_is_no_problem_any_more_although_nobody_has_called():
    """Readiness says so, or no call would come that could close the breaker."""
    now = 0.0
    breaker = Breaker(1, lambda: now)
    breaker.failed(trial=False)
    assert breaker.resting
    now += breaker.wait_s
    assert not breaker.resting and not breaker.closed
