"""Which evaluation of a run counts as its best."""

from dataclasses import replace

from deltaserve.offset_models.training.learning.held_out import Figures, Merit, Outcome, merit
from deltaserve.offset_models.training.learning.run_folder import RunState, judged

FIGURES = Figures(0.5, 0.5, 0.5, 0.5, 0.1)


def after(*merits: Merit) -> RunState:
    state = RunState("run")
    for step, one in enumerate(merits):
        state = judged(replace(state, step=step), FIGURES, one)
    return state


def test_a_better_score_is_better_whatever_is_kept() -> None:
    state = after((0.0, 1.0), (0.9, 0.7), (0.8, 1.0))
    assert (state.best_step, state.best_merit, state.worse) == (1, (0.9, 0.7), 1)


def test_of_equal_scores_the_one_that_keeps_more_is_better() -> None:
    assert after((0.0, 1.0), (1.0, 0.98), (1.0, 0.97)).best_step == 1
    assert after((0.0, 1.0), (1.0, 0.97), (1.0, 0.98)).best_step == 2


def test_of_equals_the_latest_is_best_and_patience_runs_on() -> None:
    state = after((0.0, 1.0), (1.0, 0.98), (1.0, 0.98), (1.0, 0.98))
    assert (state.best_step, state.worse) == (3, 2)


def test_what_is_no_better_than_no_step_at_all_is_not_worth_keeping() -> None:
    assert after((0.0, 1.0), (0.0, 1.0), (0.0, 0.9)).best_step == 0


def test_less_than_a_hundredth_is_no_difference() -> None:
    assert merit("harmonic", Outcome(0.998, 0.998), 0.97) == merit("harmonic", Outcome(1.0, 0.996), 0.97)
    assert merit("harmonic", Outcome(0.98, 0.99), 0.97) < merit("harmonic", Outcome(1.0, 0.99), 0.97)
    assert merit("harmonic", Outcome(1.0, 0.97), 0.97) < merit("harmonic", Outcome(1.0, 0.99), 0.97)


def test_a_trade_off_that_looks_at_one_side_lets_the_other_decide_among_equals() -> None:
    untouched = Outcome(0.0, 1.0)
    assert merit("retain", untouched, 0.97) < merit("retain", Outcome(0.9, 1.0), 0.97)
    assert merit("retain", Outcome(1.0, 0.9), 0.97) < merit("retain", untouched, 0.97)
    assert merit("forget", Outcome(0.9, 0.5), 0.97) < merit("forget", Outcome(0.9, 0.8), 0.97)


def test_a_state_survives_its_file() -> None:
    for state in (RunState("run"), after((0.0, 1.0), (0.5, 0.9))):
        assert RunState.from_json(state.to_json().decode()) == state
