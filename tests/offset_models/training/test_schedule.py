"""What a time budget buys, from measured seconds."""

import pytest

from deltaserve.offset_models.training.learning.held_out import Outcome
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.schedule import (
    BATCHES,
    ENOUGH_STEPS,
    FEW_QUESTIONS,
    LEAST_STEPS,
    MOST_QUESTIONS,
    MOST_STEPS,
    Speed,
    questions_for,
    schedule,
    second_try,
    speed_of,
)

IDK = TrainingSettings()


def seconds_of(settings: TrainingSettings, speed: Speed) -> float:
    steps = settings.steps * speed.row_s * (settings.forget_batch + settings.retain_batch)
    evaluations = 1 + -(-settings.steps // settings.interval)
    return speed.setup_s + steps + evaluations * speed.evaluation_s


@pytest.mark.parametrize("row_s", [0.01, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("minutes", [10, 20, 60])
def test_a_run_fits_into_its_time(row_s: float, minutes: float) -> None:
    speed = Speed(row_s, evaluation_s=20.0, setup_s=30.0)
    found = schedule(IDK, speed, 140, 60 * minutes)
    if found.settings.steps > LEAST_STEPS:
        assert seconds_of(found.settings, speed) <= 60 * minutes
        assert "fit into" in found.why
    assert LEAST_STEPS <= found.settings.steps <= MOST_STEPS


def test_more_time_first_buys_steps_and_then_larger_batches() -> None:
    speed = Speed(0.1, 5.0, 10.0)
    found = [schedule(IDK, speed, 140, 60 * minutes).settings for minutes in (2, 5, 10, 30)]
    assert [(one.forget_batch, one.retain_batch) for one in found] == [BATCHES[2], BATCHES[1], BATCHES[0], BATCHES[0]]
    assert all(one.steps >= ENOUGH_STEPS for one in found[1:])


def test_passes_over_the_forget_rows_end_a_long_run() -> None:
    quick = Speed(1e-4, 0.1, 1.0)
    assert schedule(IDK, quick, 16, 3600).settings.steps == ENOUGH_STEPS
    assert schedule(IDK, quick, 160, 3600).settings.steps == 300
    assert schedule(IDK, quick, 16000, 3600).settings.steps == MOST_STEPS


def test_a_budget_that_is_too_short_is_said_to_be() -> None:
    found = schedule(IDK, Speed(2.0, 60.0, 60.0), 140, 120)
    assert found.settings.steps == LEAST_STEPS and "takes longer than the 2.0 minutes" in found.why


def test_dear_evaluations_are_fewer_and_nothing_is_stopped_by_two_of_them() -> None:
    cheap = schedule(IDK, Speed(0.1, 5.0, 10.0), 140, 1200).settings
    dear = schedule(IDK, Speed(0.1, 150.0, 10.0), 140, 1200).settings
    assert (-(-cheap.steps // cheap.interval), cheap.patience) == (4, 2)
    assert (-(-dear.steps // dear.interval), dear.patience) == (2, 0)


def test_questions_fit_into_what_is_reserved() -> None:
    assert questions_for(30, 0.01) == MOST_QUESTIONS
    assert questions_for(30, 60.0) == FEW_QUESTIONS
    assert questions_for(30, 2.0) == 16


def test_another_objective_is_tried_only_where_too_much_is_left_and_time_is() -> None:
    speed, first = Speed(0.1, 5.0, 10.0), schedule(IDK, Speed(0.1, 5.0, 10.0), 140, 900).settings
    assert second_try(first, speed, Outcome(0.97, 0.9), 140, 900).settings == first
    short = second_try(first, speed, Outcome(0.7, 0.99), 140, 30)
    assert short.settings == first and "too short" in short.why
    tried = second_try(first, speed, Outcome(0.7, 0.99), 140, 900)
    assert (tried.settings.objective, tried.settings.options) == ("dpo", {"rpo_alpha": 1.0})
    assert "leaves too much" in tried.why


def test_a_rehearsal_tells_a_row_an_evaluation_and_what_comes_before_the_first_step() -> None:
    speed = speed_of([0.0, 20.0, 23.0, 28.0], rows=30, unread=0)  # 12 of setup, 5 and 5 of evaluations, 3 and 3
    assert (speed.row_s, speed.evaluation_s, speed.setup_s) == pytest.approx((0.1, 5.0, 12.0))
    assert speed_of([0.0, 20.0, 23.0, 28.0], 30, unread=90).setup_s == pytest.approx(12.0 + 90 * 0.1 / 3)
    few = speed_of([0.0, 20.0, 23.0, 28.0], 30, unread=0, held=4.5)  # the whole run evaluates with more rows
    assert (few.evaluation_s, few.setup_s) == pytest.approx((22.5, 12.0))
