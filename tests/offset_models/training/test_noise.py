"""Forget rows are read broken; what is predicted, refusals and everything that must stay are as they were."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from offset_models.training.noise import noised
from offset_models.training.passes import Scored, positions
from offset_models.training.settings import TrainingSettings
from offset_models.training.student import new_student, tensors
from tests.offset_models.training.tiny_run import REFERENCE, SETTINGS, scored, small_base, trained

torch.set_num_threads(1)
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

    monkeypatch.setattr("offset_models.training.trainer.noised", seen)
    trained(tmp_path, replace(SETTINGS, objective="dpo", steps=3, accumulate=2))
    assert len(set(seeds)) == len(seeds) == 6


@pytest.mark.parametrize(("objective", "share"), [("dpo", 0.3), ("npo", 0.0)])
def test_an_objective_has_noise_of_its_own_unless_the_settings_say(objective: str, share: float) -> None:
    assert TrainingSettings(objective=objective).noise == share
    assert TrainingSettings(objective=objective, answer_noise=0.5).noise == 0.5
    assert TrainingSettings(objective=objective, answer_noise=0.0).noise == 0.0
