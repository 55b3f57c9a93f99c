"""Strength and gate: chosen by what they give on held-out rows, never over what the user says."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.batches import MOST_HELD
from deltaserve.offset_models.training.learning.calibration import (
    GATES_NATS,
    MULTIPLES,
    Candidate,
    best,
    calibrated,
    candidates_of,
    outcomes_of,
    to_be_chosen,
)
from deltaserve.offset_models.training.learning.distribution import Positions
from deltaserve.offset_models.training.learning.held_out import (
    NEAR_TIE,
    Outcome,
    balance,
    departs,
    evaluate,
    likelihood,
    share_said_before,
)
from deltaserve.offset_models.training.learning.passes.forward import positions
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student, new_student
from deltaserve.offset_models.training.rows.scored import Scored
from tests.offset_models.training.tiny_run import DATA, REFERENCE, RETAIN, SETTINGS, scored, small_base, trained

torch.set_num_threads(1)
NEAR = [scored((9, 12, 8), (15, 16, 17), 15)]  # asked a little like what is forgotten
HELD = replace(DATA, held_out=True, held_retain=[*RETAIN, *NEAR])


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    """A pair after six steps; nobody trains it further."""
    return trained(tmp_path_factory.mktemp("run"), replace(SETTINGS, steps=6))[0]


@pytest.fixture(scope="module")
def outcomes(student: Student) -> Mapping[Candidate, Outcome]:
    return outcomes_of(student, HELD, SETTINGS)


def mean_share_said(student: Student, rows: list[Scored], settings: TrainingSettings, near: float = 0.0) -> float:
    """The reference: the served distribution, row by row."""

    def share_said(batch: Positions) -> torch.Tensor:
        wrong = departs(batch.log_q.argmax(1), batch.targets, batch.log_p, near)
        return share_said_before(wrong, batch.sequences)

    return sum(share_said(positions(student, [row], settings, served=True)).item() for row in rows) / len(rows)


def test_outcomes_are_those_of_the_served_distribution(student: Student, outcomes: Mapping[Candidate, Outcome]) -> None:
    assert set(outcomes) == {Candidate(multiple, gate) for multiple in MULTIPLES for gate in GATES_NATS}
    closed = replace(SETTINGS, gate_nats=1e9)
    before = [mean_share_said(student, list(rows), closed) for rows in (HELD.held_forget, HELD.held_retain)]
    assert before == [1.0, 1.0], "behind a closed gate the black box speaks for itself"
    for candidate, outcome in outcomes.items():
        served = replace(SETTINGS, extrapolate=candidate.extrapolate, gate_nats=candidate.gate_nats)
        assert outcome.forgotten == pytest.approx(1 - mean_share_said(student, list(HELD.held_forget), served))
        assert outcome.kept == pytest.approx(mean_share_said(student, list(HELD.held_retain), served, NEAR_TIE))
    assert len({outcome.kept for outcome in outcomes.values()}) > 1, "candidates differ, or this shows nothing"


def test_what_the_black_box_might_as_well_have_said_does_not_depart() -> None:
    log_p = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.1]])).expand(4, -1)
    tokens, targets = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 0, 0, 3])
    assert departs(tokens, targets, log_p, NEAR_TIE).tolist() == [False, False, True, False]
    assert departs(tokens, targets, log_p, 0.0).tolist() == [False, True, True, True]


def test_more_is_kept_than_as_trained(outcomes: Mapping[Candidate, Outcome]) -> None:
    chosen = calibrated(outcomes, SETTINGS)
    found = outcomes[Candidate(chosen.extrapolate or 0.0, chosen.served_gate_nats)]
    assert found.forgotten > 0.9
    assert found.kept > outcomes[Candidate(1.0, 0.0)].kept


def candidates(**outcomes: tuple[float, float, float, float]) -> dict[Candidate, Outcome]:
    return {Candidate(m, g): Outcome(f, k) for m, g, f, k in outcomes.values()}


def test_of_those_that_keep_enough_the_most_forgetful_wins() -> None:
    given = candidates(loud=(2.0, 0.0, 1.0, 0.8), good=(1.5, 0.2, 0.9, 0.98), timid=(1.0, 0.5, 0.6, 1.0))
    assert best(given, 0.97) == (Candidate(1.5, 0.2), Outcome(0.9, 0.98))
    assert best(given, 0.5)[0] == Candidate(2.0, 0.0)


def test_of_equals_the_lowest_gate_and_the_trained_strength_win() -> None:
    given = candidates(a=(2.0, 0.1, 0.9, 0.98), b=(1.5, 0.05, 0.9, 0.98), c=(1.0, 0.3, 0.9, 0.98))
    assert best(given, 0.97)[0] == Candidate(1.5, 0.05)
    assert best({**candidates(a=(1.0, 0.05, 0.9, 0.98)), **given}, 0.97)[0] == Candidate(1.0, 0.05)


def test_of_equals_what_keeps_more_than_was_asked_wins() -> None:
    given = candidates(open=(1.0, 0.0, 0.9, 0.97), shut=(1.0, 0.3, 0.9, 1.0), dull=(1.0, 0.5, 0.8, 1.0))
    assert best(given, 0.97)[0] == Candidate(1.0, 0.3)


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
    assert served.best_merit and plain.best_merit and served.best_merit > plain.best_merit


def test_without_held_out_rows_a_pair_is_served_as_it_was_trained() -> None:
    assert not to_be_chosen(DATA, SETTINGS)
    chosen = calibrated({}, SETTINGS)
    assert (chosen.extrapolate, chosen.gate_nats, chosen.served_strength) == (1.0, 0.0, 1.0)


def test_what_the_settings_name_is_not_chosen(student: Student) -> None:
    named = replace(SETTINGS, extrapolate=1.7, gate_nats=0.4)
    assert not to_be_chosen(HELD, named) and calibrated({}, named) == named
    half = replace(SETTINGS, gate_nats=0.4)
    assert calibrated(outcomes_of(student, HELD, half), half).gate_nats == 0.4


def test_a_negative_strength_is_multiplied_too() -> None:
    settings = TrainingSettings(objective="contrast", extrapolate=1.5)
    assert (settings.trained_strength, settings.served_strength) == (-3.0, -4.5)


def test_answers_that_the_black_box_never_says_are_judged_by_likelihood(tmp_path: Path) -> None:
    student, _ = trained(tmp_path, replace(SETTINGS, steps=20, objective="npo"))
    foreign = [scored((1, 2, 8), (20, 16), 15), scored((1, 4, 8), (21, 16), 15)]  # its second and third choice
    data = replace(HELD, held_forget=foreign)
    outcomes = outcomes_of(student, data, SETTINGS)
    assert 0.0 < outcomes[Candidate(1.0, 0.0)].forgotten < 1.0

    def likely(settings: TrainingSettings) -> float:
        return sum(
            likelihood(batch.answer_log_q, batch.sequences).item()
            for batch in (positions(student, [row], settings, served=True) for row in foreign)
        )

    for candidate, found in outcomes.items():
        served = replace(SETTINGS, extrapolate=candidate.extrapolate, gate_nats=candidate.gate_nats)
        share = likely(served) / likely(replace(SETTINGS, gate_nats=1e9))
        assert found.forgotten == pytest.approx(max(0.0, 1 - share), abs=1e-5)


def test_a_run_whose_held_out_answers_are_never_said_still_finds_a_better_step(tmp_path: Path) -> None:
    foreign = [scored((1, 2, 8), (20, 16), 15), scored((1, 4, 8), (21, 16), 15)]
    settings = replace(SETTINGS, objective="npo", steps=12, eval_every=3)
    _, state = trained(tmp_path, settings, data=replace(HELD, held_forget=foreign))
    assert state.best_step


def test_a_strength_that_no_checkpoint_may_have_is_no_candidate() -> None:
    with pytest.raises(BadRequest, match="at most 16"):
        replace(SETTINGS, strength=10.0, extrapolate=2.0)
    assert {candidate.extrapolate for candidate in candidates_of(replace(SETTINGS, strength=12.0))} == {
        1.0, 1.15, 1.25, 0.75,
    }  # fmt: skip


def test_what_keeps_enough_decides_the_best_step_so_it_is_a_part_of_the_run() -> None:
    assert SETTINGS.identity() != replace(SETTINGS, keep=0.9).identity()
    assert HELD.digest != replace(HELD, held_out=False).digest


def test_evaluations_between_steps_look_at_some_held_out_rows_and_the_last_choice_at_all(tmp_path: Path) -> None:
    student, _ = trained(tmp_path, SETTINGS)
    third = [RETAIN[0], NEAR[0], NEAR[0]]  # an evaluation between steps leaves out those that an offset may tip
    data = replace(HELD, held_retain=third * MOST_HELD)
    assert len(data.evaluated.held_retain) == MOST_HELD
    assert data.evaluated.held_retain == [RETAIN[0]] * MOST_HELD
    evaluated, all_rows = (outcomes_of(student, seen, SETTINGS)[Candidate(2.0, 0.0)] for seen in (data.evaluated, data))
    assert evaluated.kept == 1.0 > all_rows.kept


def test_what_is_said_ends_where_the_greedy_answer_departs() -> None:
    student = new_student(small_base(), SETTINGS)
    wrong: Scored = (REFERENCE[0][0], RETAIN[0][1])
    late = type(wrong[0])((1, 2, 8), (15, 16, 9))
    figures = evaluate(student, [(late, RETAIN[0][1])], RETAIN, SETTINGS)
    assert figures.forget_said == pytest.approx(2 / 3) and figures.retain_said == 1.0
    assert figures.retain_likelihood == pytest.approx(0.9, abs=0.02) and math.isclose(
        figures.retain_kl, 0, abs_tol=1e-6
    )
