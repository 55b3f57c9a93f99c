"""Which evaluation of a run counts as its best."""

from dataclasses import replace

from offset_models.training.held_out import Figures
from offset_models.training.run_folder import Merit, RunState, judged

FIGURES = Figures(0.5, 0.5, 0.5, 0.5, 0.1)


def after(*merits: Merit) -> RunState:
    state = RunState("run")
    for step, merit in enumerate(merits):
        state = judged(replace(state, step=step), FIGURES, merit)
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


def test_a_state_survives_its_file() -> None:
    for state in (RunState("run"), after((0.0, 1.0), (0.5, 0.9))):
        assert RunState.from_json(state.to_json().decode()) == state
