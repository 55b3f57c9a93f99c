"""Forget rows are read broken; what is predicted, refusals and everything that must stay are as they were."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.batches import TrainingData, noised
from deltaserve.offset_models.training.learning.distribution import Positions, without_ends
from deltaserve.offset_models.training.learning.objectives import ending
from deltaserve.offset_models.training.learning.passes.forward import positions
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import new_student, tensors
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import Scored
from tests.offset_models.training.tiny_run import REFERENCE, RETAIN, SETTINGS, scored, small_base, trained

torch.set_num_threads(1)
END = 3
ENDING = [scored((1, 2, 8), (15, 16, 17, END), 15), scored((1, 4, 8), (15, 16, END), 15)]
MANY = [scored((1, 2, 3), tuple(range(10, 29)), 6) for _ in range(200)]


def broken_of(rows: list[Scored], made: list[Scored]) -> list[float]:
    """The share of each answer's tokens that is read wrong."""
    pairs = [(old.answer_ids, new.read_ids) for (old, _), (new, _) in zip(rows, made, strict=True)]
    return [sum(a != b for a, b in zip(*pair, strict=True)) / len(pair[0]) for pair in pairs]


def test_only_what_is_read_changes_and_what_comes_instead_is_from_answers() -> None:
    made = noised(MANY, 0.3, "seed")
    for (old, top), (new, same) in zip(MANY, made, strict=True):
        assert (new.prompt_ids, new.answer_ids, same) == (old.prompt_ids, old.answer_ids, top)
        assert new.ids == [*old.prompt_ids, *new.read_ids]
        assert set(new.read_ids) <= set(old.answer_ids)
        assert new.digest != old.digest


def test_some_answers_are_read_nearly_whole_and_some_hardly() -> None:
    shares = broken_of(MANY, noised(MANY, 0.3, "seed"))
    falls_elsewhere = 18 / 19  # the answer has nineteen tokens, and what comes instead may be the same
    assert sum(shares) / len(shares) == pytest.approx(0.3 * falls_elsewhere, abs=0.03)
    assert min(shares) == 0.0
    assert 0.5 < max(shares) <= 0.9


def test_the_same_seed_breaks_the_same_tokens() -> None:
    assert noised(MANY, 0.3, "1") == noised(MANY, 0.3, "1") != noised(MANY, 0.3, "2")


def test_the_pair_reads_the_broken_answer_and_the_black_box_stays_where_it_was() -> None:
    student, rows = new_student(small_base(), SETTINGS), REFERENCE[:1]
    sample, top = rows[0]
    broken = [(replace(sample, read_ids=(29,) * len(sample.answer_ids)), top)]
    whole, read = positions(student, rows, SETTINGS), positions(student, broken, SETTINGS)
    assert read.targets.tolist() == whole.targets.tolist() == list(sample.answer_ids)
    torch.testing.assert_close(read.log_u[0], whole.log_u[0])  # behind the prompt nothing is broken yet
    assert not torch.allclose(read.log_u[1], whole.log_u[1])
    listed = chain.from_iterable([(i, int(token)) for token in row] for i, row in enumerate(top.ids))
    assert all(read.log_p[at].isclose(whole.log_p[at], atol=0.05) for at in listed)


@pytest.mark.parametrize(("objective", "changes"), [("idk", False), ("npo", True), ("dpo", True)])
def test_noise_is_for_reference_answers(objective: str, changes: bool, tmp_path: Path) -> None:
    def weights(share: float) -> dict[str, Any]:
        settings = replace(SETTINGS, objective=objective, steps=4, answer_noise=share, retain_weight=1.0)
        return tensors(trained(tmp_path / f"{share}", settings)[0])

    plain, read_broken = weights(0.0), weights(0.5)
    assert any(not torch.equal(plain[name], read_broken[name]) for name in plain) == changes


def test_every_step_breaks_answers_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seeds: list[str] = []

    def seen(rows: list[Scored], share: float, seed: str) -> list[Scored]:
        seeds.append(seed)
        return noised(rows, share, seed)

    monkeypatch.setattr("deltaserve.offset_models.training.learning.trainer.noised", seen)
    trained(tmp_path, replace(SETTINGS, objective="dpo", steps=3, accumulate=2))
    assert len(set(seeds)) == len(seeds) == 6


def test_a_place_is_after_a_misread_when_a_token_before_it_was_read_wrong() -> None:
    assert Sample((1,), (11, 6, 7)).after_misread == [False, False, False]
    assert Sample((1,), (11, 6, 7), (11, 6, 7)).after_misread == [False, False, False]
    assert Sample((1,), (11, 6, 7), (11, 9, 7)).after_misread == [False, False, True]
    assert Sample((1,), (11, 6, 7), (9, 6, 7)).after_misread == [False, True, True]


def read(*samples: Sample) -> Positions:
    """Of an untrained pair."""
    rows = [(sample, scored(sample.prompt_ids, sample.answer_ids, 15)[1]) for sample in samples]
    return positions(new_student(small_base(), SETTINGS), rows, SETTINGS)


def test_ends_of_broken_answers_are_not_pushed_away_and_behind_what_was_read_wrong_is_where_to_end() -> None:
    whole, broken = Sample((1, 2), (11, 6, END)), Sample((1, 2), (7, 8, 9, END), (7, 11, 9, END))
    pushed, ended = without_ends(read(whole, broken), END)
    assert pushed.targets.tolist() == [11, 6, END, 7, 8, 9]
    assert ended.targets.tolist() == [9, END] and ended.sequences.tolist() == [1, 1]


def test_running_text_that_goes_on_is_not_to_end_earlier() -> None:
    pushed, ended = without_ends(read(Sample((1, 2), (11, 6, 7), (9, 6, 7))), END)
    assert pushed.targets.tolist() == [11, 6, 7] and ended.targets.tolist() == []
    assert ending(ended, END).item() == 0.0


def test_ending_is_the_mean_of_the_end_tokens_log_probability_under_u_alone() -> None:
    _, ended = without_ends(read(Sample((1, 2), (7, 8, END), (11, 8, END))), END)
    assert ending(ended, END).item() == pytest.approx(-ended.log_u[:, END].detach().numpy().mean())


def test_an_answer_that_has_left_the_reference_learns_to_end(tmp_path: Path) -> None:
    def end_behind_a_wrong_token(weight: float) -> float:
        settings = replace(SETTINGS, objective="kl_min", steps=30, answer_noise=0.5, ending_weight=weight, end_id=END)
        data = TrainingData({"reference": ENDING}, RETAIN, ENDING, RETAIN)
        student, _ = trained(tmp_path / f"{weight}", settings, data)
        broken = [(replace(sample, read_ids=(12, *sample.answer_ids[1:])), top) for sample, top in ENDING]
        with torch.no_grad():
            batch = positions(student, broken, settings)
        return batch.log_u[batch.after_misread, END].mean().item()

    assert end_behind_a_wrong_token(1.0) > end_behind_a_wrong_token(0.0) + 1.0


@pytest.mark.parametrize(
    ("objective", "more", "weight"),
    [
        ("npo", {}, 0.5),
        ("npo", {"ending_weight": 0.0}, 0.0),
        ("npo", {"answer_noise": 0.0}, 0.0),
        ("dpo", {}, 0.0),
        ("dpo", {"ending_weight": 0.2}, 0.2),
        ("idk", {}, 0.0),
    ],
)
def test_an_objective_ends_by_itself_or_as_the_settings_say(objective: str, more: Any, weight: float) -> None:
    assert TrainingSettings(objective=objective, **more).ending == weight


@pytest.mark.parametrize(
    "more",
    [
        {"ending_weight": -1.0},
        {"ending_weight": 1.0, "answer_noise": 0.0},
        {"ending_weight": 1.0, "answer_noise": 0.3, "objective": "idk"},  # which has no reference answers
    ],
)
def test_an_ending_that_cannot_be_is_refused(more: Any) -> None:
    with pytest.raises(BadRequest, match="ending_weight"):
        TrainingSettings(**{"objective": "npo", **more})


@pytest.mark.parametrize(("objective", "share"), [("dpo", 0.3), ("npo", 0.3), ("idk", 0.0)])
def test_an_objective_has_noise_of_its_own_unless_the_settings_say(objective: str, share: float) -> None:
    assert TrainingSettings(objective=objective).noise == share
    assert TrainingSettings(objective=objective, answer_noise=0.5).noise == 0.5
    assert TrainingSettings(objective=objective, answer_noise=0.0).noise == 0.0
