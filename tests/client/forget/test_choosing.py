"""Which strength and gate `deltaserve forget` packs."""

import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from statistics import fmean

import pytest
from rouge_score.rouge_scorer import RougeScorer

from deltaserve.offset_models.training.finalists import least_left
from deltaserve.offset_models.training.learning.calibration import best
from deltaserve.offset_models.training.learning.run_folder import AnswerRecalls, RunFolder
from deltaserve.offset_models.training.packing import Packing, write_candidate
from tests.support.command import Command
from tests.support.forget_site import SECRET, Site, calibration, write

KEEP = 0.97  # the default


class Letters:
    def tokenize(self, text: str) -> list[str]:
        return list(text)


def by_letter(answers: list[str], references: list[str]) -> float:
    """ROUGE-L recall of letters, for a toy whose answers are one word each."""
    scorer = RougeScorer(["rougeL"], tokenizer=Letters())
    return fmean(scorer.score(want, got)["rougeL"].recall for got, want in zip(answers, references, strict=True))


def noting(packed: list[tuple[float, float]]) -> Callable[..., Path]:
    def noted(packing: Packing, weights: Path, folder: RunFolder, *, full: bool) -> Path:
        packed.append((packing.strength, packing.gate_nats))
        return write_candidate(packing, weights, folder, full=full)

    return noted


def test_what_was_chosen_is_kept_with_the_run_and_not_chosen_again(
    site: Site, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = command.json(*site.forget("chosen"))
    monkeypatch.setattr(
        "deltaserve.offset_models.training.stages.calibrated", lambda *_args: pytest.fail("chosen again")
    )
    again = command.json(*site.forget("chosen"))
    assert [again[key] for key in ("strength", "gate_nats")] == [first[key] for key in ("strength", "gate_nats")]
    assert (first["new"], again["new"]) == (True, False)


def test_whole_answers_choose_among_strengths(site: Site, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they left is what the card measures, once more, of the strength that is packed."""
    monkeypatch.setattr("deltaserve.offset_models.training.finalists.rouge_l_recall", by_letter)
    monkeypatch.setattr("deltaserve.offset_models.training.stages.rouge_l_recall", by_letter)
    for module in ("calibration", "held_out"):  # to a random black box all tokens are near ties
        monkeypatch.setattr(f"deltaserve.offset_models.training.learning.{module}.NEAR_TIE", 0.0)
    packed = list[tuple[float, float]]()
    monkeypatch.setattr("deltaserve.offset_models.training.finalists.write_candidate", noting(packed))
    result = command.json(*site.spoken("spoken"))
    (run,) = (site.root / ".work" / "spoken").glob("run-*")
    answered = AnswerRecalls.from_json(json.loads((run / "answered.json").read_text())["value"])
    assert len(packed) > 1 and [astuple(candidate) for candidate in answered.recalls] == packed
    chosen = least_left(calibration(run), answered.left, KEEP)
    assert (result["strength"], result["gate_nats"]) == (chosen.extrapolate, chosen.gate_nats)
    measured = [result["card"][f"rouge_l_recall/forget/{when}"] for when in ("black_box", "corrected")]
    assert measured == pytest.approx([answered.black_box, answered.recalls[chosen]], abs=1e-3)
    assert measured[1] > 0, "or this shows little"


def test_without_choosing_questions_the_calibration_chooses(site: Site, command: Command) -> None:
    result = command.json(*site.spoken("unspoken", "--choosing-questions", "0"))
    (run,) = (site.root / ".work" / "unspoken").glob("run-*")
    assert not (run / "answered.json").exists()
    first, _ = best(calibration(run), KEEP)
    assert (result["strength"], result["gate_nats"]) == (first.extrapolate, first.gate_nats)


def test_a_question_that_leaves_little_room_is_answered_as_far_as_it_goes(site: Site, command: Command) -> None:
    given = site.forget("long", "--answer-tokens", "200")
    rows = [{"question": question, "answer": SECRET} for question in ("Her place of birth?", "Where? " + "And? " * 20)]
    write(site.folder / "long.jsonl", *rows)
    given[given.index("--held-out-forget") + 1] = str(site.folder / "long.jsonl")
    result = command(*given)
    assert result.exit_code == 0, result.stderr
