"""Tokens drawn through batches follow the target, whoever proposed: chi-square tests with the streams' own noise."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from deltaserve.offset_models.engine.deciding.decide import decide
from deltaserve.offset_models.engine.deciding.resolving import Drafted
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import Floats
from tests.offset_models.engine.deciding.asking import decided, define
from tests.offset_models.engine.deciding.positions import SMALL, Position, like
from tests.support import amounts
from tests.support.statistics import ALARM, p_value

DRAWS, GUARDED, BATCH = amounts.amount(1_000, 1_800), amounts.amount(300, 600), 600
T7 = SamplingParams(max_tokens=99, temperature=0.7)


def drawn(position: Position, ranks: Sequence[int | None]) -> Floats:
    """Counts of emitted ids, [SMALL], of many streams in a batch; `ranks` are of their proposed tokens."""
    counts, noise = np.zeros(SMALL), Noise(None)
    by_rank = {rank: like(position, proposed=rank).question(SMALL, noise) for rank in set(ranks)}
    for first in range(0, len(ranks), BATCH):
        outcomes = decide(*rows_of(position, BATCH), [by_rank[rank] for rank in ranks[first : first + BATCH]])
        np.add.at(counts, [decided(outcome).token_id for outcome in outcomes], 1)
    return counts


def black_box_draws(position: Position, temperature: float, draws: int = DRAWS) -> list[int]:
    """Ranks of tokens that the black box draws at this temperature from all of its vocabulary."""
    whole = like(position, listed=SMALL, padded=0).proposal(SMALL)
    probs = np.exp(whole.top_logprobs / temperature)
    return np.random.default_rng(11).choice(SMALL, size=draws, p=probs / probs.sum()).tolist()


CASES = {
    "plain": Position(seed=3),
    "top_p": Position(seed=4, params=SamplingParams(max_tokens=99, top_p=0.8)),
    "min_p and top_k": Position(seed=5, params=SamplingParams(max_tokens=99, temperature=1.3, min_p=0.05, top_k=7)),
    "penalties": Position(
        seed=6,
        output=[2, 2, 5],
        params=SamplingParams(max_tokens=99, repetition_penalty=1.2, presence_penalty=0.5, frequency_penalty=0.3),
    ),
    "all together": Position(
        seed=7,
        output=[2],
        params=SamplingParams(max_tokens=99, temperature=0.8, top_p=0.9, top_k=9, presence_penalty=0.2),
    ),
    "a truncated tail": Position(seed=8, policy=Policy(tail="truncate")),
    "a guard": Position(seed=9, params=T7, policy=Policy(guard=Guard(kl_nats=0.1, min_p=0.05, temperature=0.6))),
}


@pytest.mark.parametrize("draft_temperature", [1.0, 0.5, None])
@pytest.mark.parametrize("position", CASES.values(), ids=CASES)
def test_tokens_follow_the_target_whatever_the_black_box_draws_at(
    position: Position, draft_temperature: float | None
) -> None:
    draws = GUARDED if position.policy.guard else DRAWS  # the core decides guarded ones, one after the other
    ranks = black_box_draws(position, draft_temperature or 2.0, draws)
    counts = drawn(like(position, draft_temperature=draft_temperature), ranks)
    assert p_value(counts, define(position)[1].probs) > ALARM


def test_a_draft_that_lies_about_its_temperature_is_detected() -> None:
    counts = drawn(Position(seed=3), black_box_draws(Position(seed=3), 0.5))
    assert p_value(counts, define(Position(seed=3))[1].probs) < 1e-12


@pytest.mark.parametrize("position", [Position(seed=3), CASES["top_p"], CASES["penalties"]])
def test_a_token_that_is_not_shown_and_a_position_without_a_list_are_drawn_from_the_target(position: Position) -> None:
    for listed in (5, 0):
        hidden = like(position, listed=listed)
        assert p_value(drawn(hidden, [None] * DRAWS), define(hidden)[1].probs) > ALARM


def drafts_of_the_pair(position: Position, draws: int) -> list[Drafted]:
    """Tokens of a position without a list, and what they were drawn from."""
    blind = like(position, listed=0, proposed=None).question(SMALL, Noise(None), keeps=True)
    found = []
    for outcome in decide(*rows_of(position, draws), [blind] * draws):
        assert isinstance(outcome, Drafted), repr(outcome)
        found.append(outcome)
    return found


@pytest.mark.parametrize("position", CASES.values(), ids=CASES)
def test_what_the_pair_draws_its_drafts_from_is_the_core_s_target_of_a_position_without_a_list(
    position: Position,
) -> None:
    drafts = drafts_of_the_pair(position, 300)
    expected = define(like(position, listed=0, proposed=None))[1].probs
    np.testing.assert_allclose(drafts[0].drawn_from.numpy(), expected, atol=1e-6)
    tokens = [draft.decision.token_id for draft in drafts]
    assert p_value(np.bincount(tokens, minlength=SMALL).astype(float), expected) > ALARM


@pytest.mark.parametrize("position", CASES.values(), ids=CASES)
def test_tokens_follow_the_target_where_the_pair_drafted(position: Position) -> None:
    draws, noise = (GUARDED if position.policy.guard else DRAWS), Noise(None)
    checked = [
        replace(
            position.question(SMALL, noise),
            proposal=replace(position.proposal(SMALL), token_id=draft.decision.token_id, local=True),
            drawn_from=draft.drawn_from,
        )
        for draft in drafts_of_the_pair(position, draws)
    ]
    tokens = [decided(outcome).token_id for outcome in decide(*rows_of(position, draws), checked)]
    assert p_value(np.bincount(tokens, minlength=SMALL).astype(float), define(position)[1].probs) > ALARM


def rows_of(position: Position, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    base, offset = (torch.from_numpy(values).expand(count, -1) for values in position.row(SMALL))
    return base, offset
