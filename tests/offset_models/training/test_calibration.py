"""Strength and gate: chosen by what they give on held-out rows, never over what the user says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offset_models.training.batches import TrainingData
from offset_models.training.calibration import (
    GATES_NATS,
    MULTIPLES,
    Candidate,
    best,
    calibrated,
    outcomes_of,
)
from offset_models.training.held_out import Outcome, balance, said
from offset_models.training.passes import Scored, positions
from offset_models.training.settings import TrainingSettings
from offset_models.training.student import Student
from tests.offset_models.training.tiny_run import DATA, REFERENCE, RETAIN, SETTINGS, scored, trained

torch.set_num_threads(1)
NEAR = [scored((1, 3, 8), (15, 16, 17), 15), scored((1, 5, 8), (15, 16), 15)]  # asked almost like what is forgotten
HELD = replace(DATA, held_out=True, held_retain=[*RETAIN, *NEAR])


def share_said(student: Student, rows: list[Scored], settings: TrainingSettings) -> float:
    """The reference: the served distribution, row by row."""
    return sum(said(positions(student, [row], settings, served=True)).item() for row in rows) / len(rows)


def test_outcomes_are_those_of_the_served_distribution(tmp_path: Path) -> None:
    student, _ = trained(tmp_path, replace(SETTINGS, steps=20))
    outcomes = outcomes_of(student, HELD, SETTINGS)
    assert set(outcomes) == {Candidate(multiple, gate) for multiple in MULTIPLES for gate in GATES_NATS}
    closed = replace(SETTINGS, gate_nats=1e9)
    before = [share_said(student, list(rows), closed) for rows in (HELD.held_forget, HELD.held_retain)]
    assert before == [1.0, 1.0], "behind a closed gate the black box speaks for itself"
    for candidate, outcome in outcomes.items():
        served = replace(SETTINGS, extrapolate=candidate.extrapolate, gate_nats=candidate.gate_nats)
        assert outcome.forgotten == pytest.approx(1 - share_said(student, list(HELD.held_forget), served))
        assert outcome.kept == pytest.approx(share_said(student, list(HELD.held_retain), served))
    assert len({outcome.kept for outcome in outcomes.values()}) > 1, "candidates differ, or this shows nothing"


def test_more_is_kept_than_as_trained_and_the_promise_is_held(tmp_path: Path) -> None:
    student, _ = trained(tmp_path, SETTINGS)
    outcomes = outcomes_of(student, HELD, SETTINGS)
    plain, keep = outcomes[Candidate(1.0, 0.0)], 0.97
    chosen = calibrated(student, HELD, replace(SETTINGS, keep=keep))
    found = outcomes[Candidate(chosen.extrapolate or 0.0, chosen.served_gate_nats)]
    assert found.forgotten > 0.9
    assert found.kept >= min(keep, plain.kept)


def candidates(**outcomes: tuple[float, float, float, float]) -> dict[Candidate, Outcome]:
    return {Candidate(m, g): Outcome(f, k) for m, g, f, k in outcomes.values()}


def test_of_those_that_keep_enough_the_most_forgetful_wins() -> None:
    given = candidates(loud=(2.0, 0.0, 1.0, 0.8), good=(1.5, 0.2, 0.9, 0.98), timid=(1.0, 0.5, 0.6, 1.0))
    assert best(given, 0.97) == (Candidate(1.5, 0.2), Outcome(0.9, 0.98))
    assert best(given, 0.5)[0] == Candidate(2.0, 0.0)


def test_of_equals_the_lowest_gate_and_the_trained_strength_win() -> None:
    given = candidates(a=(2.0, 0.1, 0.9, 1.0), b=(1.5, 0.05, 0.9, 0.98), c=(1.0, 0.3, 0.9, 1.0))
    assert best(given, 0.97)[0] == Candidate(1.5, 0.05)
    assert best({**candidates(a=(1.0, 0.05, 0.9, 0.98)), **given}, 0.97)[0] == Candidate(1.0, 0.05)


def test_a_closed_gate_is_no_answer_to_what_must_be_kept() -> None:
    given = candidates(a=(1.0, 0.0, 1.0, 0.4), b=(1.0, 0.3, 0.9, 0.9), c=(1.0, 1.0, 0.05, 1.0))
    assert best(given, 0.97)[0] == Candidate(1.0, 0.3)


def test_keeping_less_than_asked_weighs_more_than_forgetting_less() -> None:
    assert balance(Outcome(0.8, 0.97), 0.97) == balance(Outcome(0.8, 1.0), 0.97)
    assert balance(Outcome(0.85, 0.9), 0.97) < balance(Outcome(0.8, 0.97), 0.97)
    assert balance(Outcome(0.8, 0.0), 0.97) == 0.0 == balance(Outcome(0.0, 1.0), 0.97)
    assert balance(Outcome(0.8, 0.0), 0.0) > 0.0, "nobody asked to keep anything"


def test_the_best_step_is_judged_as_it_would_be_served(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=12, eval_every=3)
    _, plain = trained(tmp_path / "plain", settings, data=replace(HELD, held_out=False))
    _, served = trained(tmp_path / "served", settings, data=HELD)
    assert plain.latest == served.latest, "the steps are the same"
    assert served.best_score > plain.best_score


def test_without_held_out_rows_a_pair_is_served_as_it_was_trained(tmp_path: Path) -> None:
    student, _ = trained(tmp_path, replace(SETTINGS, steps=2))
    chosen = calibrated(student, DATA, SETTINGS)
    assert (chosen.extrapolate, chosen.gate_nats, chosen.served_strength) == (1.0, 0.0, 1.0)


def test_what_the_settings_name_is_not_chosen(tmp_path: Path) -> None:
    student, _ = trained(tmp_path, replace(SETTINGS, steps=2))
    named = replace(SETTINGS, extrapolate=1.7, gate_nats=0.4)
    assert calibrated(student, HELD, named) == named
    assert calibrated(student, HELD, replace(SETTINGS, gate_nats=0.4)).gate_nats == 0.4


def test_a_negative_strength_is_multiplied_too() -> None:
    settings = TrainingSettings(objective="contrast", extrapolate=1.5)
    assert (settings.trained_strength, settings.served_strength) == (-3.0, -4.5)


def test_rows_are_compared_with_what_the_black_box_says(tmp_path: Path) -> None:
    """A reference answer that it never says counts for nothing."""
    student, _ = trained(tmp_path, replace(SETTINGS, steps=2))
    foreign = TrainingData(DATA.forget, RETAIN, [*REFERENCE, scored((1, 2, 8), (9, 9), 15)], RETAIN, True)
    closed = outcomes_of(student, foreign, replace(SETTINGS, gate_nats=1e9))
    assert {(outcome.forgotten, outcome.kept) for outcome in closed.values()} == {(0.0, 1.0)}
