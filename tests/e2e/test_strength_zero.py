"""Strength 0 is the black box: the same log-probabilities and the same draws, however few tokens it lists."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.amounts import amount
from tests.support.blackbox import BlackBoxProcess, blackbox
from tests.support.deltaserve import Deltaserve, deltaserve
from tests.support.oracle import Oracle
from tests.support.statistics import ALARM, p_value

LISTED = 20  # what both servers are asked to list; the server behind sees `k` of them
A_REQUEST = 100  # choices of one request
NATS = 1e-4
Lists = list[dict[str, float]]


@pytest.fixture(scope="module")
def upstream(weights: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(weights / "blackbox", "--max-logprobs", "-1") as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer.load(weights / "base")


@pytest.fixture(scope="module", params=[5, 20, "whole vocabulary"])
def k(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> int:
    return tokenizer.vocab_size if request.param == "whole vocabulary" else request.param


@pytest.fixture(scope="module")
def served(upstream: BlackBoxProcess, checkpoint: Path, k: int) -> Iterator[Deltaserve]:
    with deltaserve(upstream.url, checkpoint, strength=0, upstream_k=k, max_n=A_REQUEST, max_queue=200) as server:
        yield server


@pytest.fixture(scope="module")
def prompts(tokenizer: Tokenizer) -> list[list[int]]:
    rng = np.random.default_rng(20)
    ordinary = [i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids]
    return [rng.choice(ordinary, int(rng.integers(2, 12))).tolist() for _ in range(200)]


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_listed_tokens_have_the_black_box_s_own_log_probabilities_drawn_and_given_alike(
    served: Deltaserve, upstream: BlackBoxProcess, k: int, prompts: list[list[int]], count: int
) -> None:
    ask = {"max_tokens": 3, "temperature": 0, "logprobs": LISTED, "echo": True, "return_tokens_as_token_ids": True}
    for ids in prompts[:count]:
        found = lists(served.complete(ids, **ask))
        own = lists(upstream.complete(prompt=ids, **ask)["choices"][0])
        assert len(found) == len(own) == len(ids) + 2  # the first token of all has no list
        for ours, theirs in zip(found, own, strict=True):
            told = dict(sorted(theirs.items(), key=lambda entry: -entry[1])[:k])
            assert {name: ours[name] for name in told} == pytest.approx(told, abs=NATS)


def lists(choice: dict) -> Lists:
    return [entries for entries in choice["logprobs"]["top_logprobs"] if entries is not None]


@pytest.fixture(scope="module")
def wide(
    weights: Path, checkpoint: Path, tokenizer: Tokenizer, prompts: list[list[int]]
) -> tuple[list[int], np.ndarray]:
    return widest(Oracle.load(weights, checkpoint, tokenizer.vocab_size), prompts[:40])


@pytest.mark.parametrize("draws", [1_000, pytest.param(4_000, marks=pytest.mark.slow)])
def test_draws_follow_the_black_box_as_far_as_it_tells_of_itself(
    served: Deltaserve, k: int, wide: tuple[list[int], np.ndarray], draws: int
) -> None:
    prompt, own = wide
    if k == own.size:  # no tail that could lose something, which is what takes most draws to see
        draws = amount(300, draws)
    listed = np.argsort(-own)[:k]
    counts = np.zeros(own.size)
    for _ in range(draws // A_REQUEST):
        answer = served.client.post("/v1/completions", json=sampled(prompt))
        assert answer.status_code == 200, answer.text
        np.add.at(counts, [choice["token_ids"][0] for choice in answer.json()["choices"]], 1)
    assert p_value(*(with_tail_as_one(cells, listed) for cells in (counts, own))) > ALARM
    lost = own * np.where(np.isin(np.arange(own.size), listed), 1.0, 0.5)  # a tail that loses half of its mass
    if k < own.size:
        assert p_value(*(with_tail_as_one(cells, listed) for cells in (counts, lost))) < ALARM


def widest(oracle: Oracle, prompts: list[list[int]]) -> tuple[list[int], np.ndarray]:
    """The prompt after which the black box is least sure, and its own distribution there: most lies beyond a list."""
    every = [oracle.probs(prompt, corrected=False) for prompt in prompts]
    at = int(np.argmin([probs.max() for probs in every]))
    return prompts[at], every[at]


def with_tail_as_one(cells: np.ndarray, listed: np.ndarray) -> np.ndarray:
    return np.append(cells[listed], cells.sum() - cells[listed].sum())


def sampled(prompt: list[int]) -> dict:
    return {"prompt": prompt, "max_tokens": 1, "temperature": 1, "n": A_REQUEST, "return_token_ids": True}
