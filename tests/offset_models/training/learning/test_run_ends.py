"""What ends a run before its last step, and which weights are kept then."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deltaserve.offset_models.training.learning.held_out import evaluate
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from deltaserve.offset_models.training.learning.trainer import TrainingFailed
from tests.offset_models.training.tiny_run import REFERENCE, RETAIN, SETTINGS, trained

torch.set_num_threads(1)


def test_a_collapsing_objective_is_stopped_with_a_sentence_and_its_weights_are_not_the_best(tmp_path: Path) -> None:
    settings = replace(SETTINGS, objective="grad_ascent", steps=200, eval_every=2, max_retain_kl=0.5)
    _, state = trained(tmp_path, settings)
    assert state.stopped is not None and "KL to the black box on retain rows" in state.stopped
    assert state.step < 200 and state.best_step is not None and state.best_step < state.step
    assert min(state.retain_kl) > 0.5
    _, resumed = trained(tmp_path, settings)
    assert resumed == state  # a stopped run stays stopped


def test_a_run_without_progress_ends_when_patience_does(tmp_path: Path) -> None:
    settings = replace(SETTINGS, eval_every=1, patience=3, learning_rate=1e-9)
    _, state = trained(tmp_path, settings)
    assert (state.step, state.best_step) == (3, 0)
    assert state.stopped == "No better trade-off in 3 evaluations."


def test_the_best_weights_are_kept_beside_the_last_ones(tmp_path: Path) -> None:
    settings = replace(SETTINGS, eval_every=1, steps=30, trade_off="retain", objective="grad_ascent", max_retain_kl=99)
    student, state = trained(tmp_path, settings)
    assert state.best_step is not None and 0 < state.best_step < 30  # of those that keep all, what forgets most
    RunFolder(tmp_path).load_best(student)
    kept = evaluate(student, REFERENCE, RETAIN, settings)
    assert state.latest is not None
    assert kept.retain_said == 1.0 > state.latest.retain_said


def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="lower learning rate"):
        trained(tmp_path, replace(SETTINGS, learning_rate=1e30, clip=1e30, steps=9))


def test_an_objective_that_collapses_soon_is_judged_more_often_unless_the_settings_say_how_often(
    tmp_path: Path,
) -> None:
    judged: list[int] = []
    trained(
        tmp_path,
        replace(SETTINGS, objective="grad_ascent", steps=12, max_retain_kl=99),
        report=lambda step, figures: judged.append(step) if "held_out/retain_kl" in figures else None,
    )
    assert judged == [0, 5, 10, 12]
    assert replace(SETTINGS, objective="idk").interval == 50
    assert replace(SETTINGS, objective="grad_ascent", eval_every=0).interval == 0
