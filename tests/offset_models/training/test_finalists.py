"""Whole answers choose among strengths that do as well along the reference answers, and among no others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import UpstreamError
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.finalists import HeldOutQuestions, by_answers, finalists, least_left
from deltaserve.offset_models.training.learning.calibration import Candidate
from deltaserve.offset_models.training.learning.held_out import Outcome
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from deltaserve.offset_models.training.packing import Packing
from deltaserve.offset_models.training.rows.scored import Scored
from deltaserve.offset_models.training.stages import Trained
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


@pytest.mark.parametrize(("other", "wins"), [(0.0485, PLAIN), (0.032, PLAIN), (0.03, LOUD)])
def test_the_first_stays_unless_another_is_better_by_a_hundredth(other: float, wins: Candidate) -> None:
    assert least_left(OUTCOMES, {PLAIN: 0.05, LOUD: other}, 0.97) == wins


def test_what_leaves_less_but_keeps_too_little_does_not_win() -> None:
    poor = {**OUTCOMES, LOUDER: Outcome(0.97, 0.9)}
    assert least_left(poor, {PLAIN: 0.14, LOUDER: 0.05}, 0.97) == PLAIN


class Recalls:
    """A black box and corrected models of which only the recall matters; notes who is asked."""

    def __init__(self, black_box: float = 0.9, **corrected: float) -> None:
        self.said, self.corrected, self.asked, self.fails = black_box, corrected, list[str](), ""

    async def black_box(self, _served: Any) -> float:
        return self.answer("black box", self.said)

    async def of(self, _served: Any, packing: Packing) -> float:
        return self.answer(f"{packing.strength:g}", self.corrected[f"x{packing.strength:g}".replace(".", "_")])

    def answer(self, name: str, recall: float) -> float:
        if name == self.fails:
            raise UpstreamError("gone")
        self.asked.append(name)
        return recall


@pytest.fixture
def recalls(monkeypatch: pytest.MonkeyPatch) -> Recalls:
    @asynccontextmanager
    async def nobody(*_args: object) -> AsyncIterator[None]:
        yield

    found = Recalls(x1=0.45, x1_5=0.09, x2=0.045)
    monkeypatch.setattr("deltaserve.offset_models.training.finalists.serving", nobody)
    monkeypatch.setattr(
        "deltaserve.offset_models.training.finalists.write_candidate", lambda packing, *_args, full: packing.out
    )
    monkeypatch.setattr(HeldOutQuestions, "black_box", found.black_box)
    monkeypatch.setattr(HeldOutQuestions, "corrected", found.of)
    return found


@dataclass
class Run:
    """A small finished run whose candidates are at hand."""

    folder: Path
    before: Trained

    def choose(self, rows: list[Scored] | None = None) -> Trained:
        asked: Any = list(DATA.held_forget) if rows is None else rows
        nowhere: Any = None
        asking = HeldOutQuestions(asked, Source("http://127.0.0.1:9", "", 20), 8, "cpu", nowhere)
        packing = Packing(self.folder / "x", "x", self.folder / "base", "MIT", nowhere, 1.0)
        return by_answers(self.before, packing, DATA, RunFolder(self.folder), asking)


def run_of(folder: Path, outcomes: dict[Candidate, Outcome]) -> Run:
    student, state = trained(folder, replace(SETTINGS, steps=6))
    return Run(folder, Trained(student, replace(SETTINGS, extrapolate=1.0, gate_nats=0.05), state, outcomes))


def test_what_answers_chose_is_served_with_figures_of_its_own_and_kept(tmp_path: Path, recalls: Recalls) -> None:
    run = run_of(tmp_path, OUTCOMES)
    after = run.choose()
    assert (after.settings.served_strength, after.settings.gate_nats) == (2.0, 0.5)
    assert after.state.best != run.before.state.best
    assert after.student is run.before.student
    assert recalls.asked == ["black box", "1", "1.5", "2"]
    assert run.choose() == after
    assert len(recalls.asked) == 4, "the second time the folder knew"


def test_what_was_answered_before_a_failure_is_not_asked_again(tmp_path: Path, recalls: Recalls) -> None:
    run = run_of(tmp_path, OUTCOMES)
    recalls.fails = "1.5"
    with pytest.raises(UpstreamError):
        run.choose()
    recalls.fails = ""
    assert run.choose().settings.served_strength == 2.0
    assert recalls.asked == ["black box", "1", "1.5", "2"]


def test_other_candidates_are_not_measured_where_the_first_leaves_nothing(tmp_path: Path, recalls: Recalls) -> None:
    recalls.corrected["x1"] = 0.005
    run = run_of(tmp_path, OUTCOMES)
    assert run.choose() == run.before == run.choose()
    assert recalls.asked == ["black box", "1"]


def test_other_candidates_are_measured_where_the_first_keeps_too_little(tmp_path: Path, recalls: Recalls) -> None:
    recalls.corrected["x1"] = 0.005
    run = run_of(tmp_path, {PLAIN: Outcome(0.99, 0.93), LOUD: Outcome(0.98, 0.93)})
    run.choose()
    assert recalls.asked == ["black box", "1", "1.5"]


def test_a_black_box_that_hardly_says_the_references_has_nothing_to_leave(tmp_path: Path, recalls: Recalls) -> None:
    recalls.said = 0.02
    run = run_of(tmp_path, OUTCOMES)
    assert run.choose() == run.before == run.choose()
    assert recalls.asked == ["black box"]


@pytest.mark.parametrize("kept", [(PLAIN,), ()])
def test_no_question_is_sent_where_there_is_nothing_to_choose(
    tmp_path: Path, recalls: Recalls, kept: tuple[Candidate, ...]
) -> None:
    run = run_of(tmp_path, {candidate: OUTCOMES[candidate] for candidate in kept})
    assert run.choose() == run.before and not recalls.asked


def test_the_black_box_is_not_called_without_questions(tmp_path: Path, recalls: Recalls) -> None:
    run = run_of(tmp_path, OUTCOMES)
    assert run.choose([]) == run.before and not recalls.asked
