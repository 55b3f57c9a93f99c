"""Whole answers choose among strengths that do as well along the reference answers, and among no others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offset_models.training.calibration import Candidate
from offset_models.training.finalists import Asked, by_answers, finalists, least_left
from offset_models.training.held_out import Outcome
from offset_models.training.passes import Scored
from offset_models.training.run_folder import RunFolder
from offset_models.training.source import Source
from offset_models.training.stages import Trained
from tests.offset_models.training.tiny_run import DATA, SETTINGS, trained

PLAIN, LOUD, LOUDER = Candidate(1.0, 0.05), Candidate(1.5, 0.0), Candidate(2.0, 0.5)
OUTCOMES = {
    PLAIN: Outcome(0.98, 1.0),
    Candidate(1.0, 0.0): Outcome(0.97, 1.0),
    LOUD: Outcome(0.98, 0.98),
    LOUDER: Outcome(0.97, 0.975),
    Candidate(2.0, 0.0): Outcome(0.99, 0.9),  # keeps less than was asked for
    Candidate(0.75, 0.0): Outcome(0.9, 1.0),  # forgets less than the others
}


def test_finalists_are_the_best_one_and_one_of_each_strength_that_is_nearly_as_good() -> None:
    assert finalists(OUTCOMES, 0.97) == [PLAIN, LOUD, LOUDER]
    assert finalists({PLAIN: OUTCOMES[PLAIN]}, 0.97) == [PLAIN]
    assert finalists({}, 0.97) == []


def test_the_finalist_whose_answers_leave_least_wins() -> None:
    assert least_left(OUTCOMES, {PLAIN: 0.14, LOUD: 0.08, LOUDER: 0.05}, 0.97) == LOUDER


def test_the_first_stays_where_no_other_is_better_by_a_hundredth() -> None:
    assert least_left(OUTCOMES, {PLAIN: 0.052, LOUD: 0.05, LOUDER: 0.049}, 0.97) == PLAIN


def test_what_leaves_less_but_keeps_too_little_does_not_win() -> None:
    poor = {**OUTCOMES, LOUDER: Outcome(0.97, 0.9)}
    assert least_left(poor, {PLAIN: 0.14, LOUDER: 0.05}, 0.97) == PLAIN


class Shares:
    """In place of asking: what each candidate leaves, and whether anybody was asked."""

    def __init__(self, **left: float) -> None:
        self.left, self.calls = left, 0

    async def __call__(self, *_args: Any) -> dict[Candidate, float]:
        self.calls += 1
        return {candidate: self.left[f"x{candidate.extrapolate:g}".replace(".", "_")] for candidate in (PLAIN, LOUD)}


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> Shares:
    found = Shares(x1=0.5, x1_5=0.1)
    monkeypatch.setattr("offset_models.training.finalists._shares_left", found)
    return found


def choose(
    tmp_path: Path, outcomes: dict[Candidate, Outcome], rows: list[Scored], settings: Any = SETTINGS
) -> tuple[Trained, Trained]:
    student, state = trained(tmp_path, replace(settings, steps=6))
    before = Trained(student, replace(settings, extrapolate=1.0, gate_nats=0.05), state, outcomes)
    nobody = Source("http://127.0.0.1:9", "", 20)
    packing: Any = None  # what is packed is asked, and nobody is asked here
    folder = RunFolder(tmp_path)
    after = by_answers(before, packing, DATA, folder, Asked(rows, nobody, 8), shown=packing)
    assert by_answers(before, packing, DATA, folder, Asked(rows, nobody, 8), shown=packing) == after
    return before, after


def test_what_answers_chose_is_served_with_figures_of_its_own_and_kept(tmp_path: Path, shares: Shares) -> None:
    before, after = choose(tmp_path, {c: OUTCOMES[c] for c in (PLAIN, LOUD)}, list(DATA.held_forget))
    assert (after.settings.served_strength, after.settings.gate_nats) == (1.5, 0.0)
    assert after.state.best != before.state.best
    assert after.student is before.student
    assert shares.calls == 1, "the second time the folder knew"


@pytest.mark.parametrize(("kept", "rows"), [((PLAIN,), 2), ((PLAIN, LOUD), 0), ((), 2)])
def test_nobody_is_asked_where_there_is_nothing_to_choose(
    tmp_path: Path, shares: Shares, kept: tuple[Candidate, ...], rows: int
) -> None:
    before, after = choose(tmp_path, {c: OUTCOMES[c] for c in kept}, list(DATA.held_forget)[:rows])
    assert after == before and not shares.calls
