"""What the demo promises, seen from outside: the embedded black box and the server as processes, all over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.demo.register.questions import evaluation_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support import amounts
from tests.support.blackbox import BlackBoxProcess, blackbox
from tests.support.deltaserve import Deltaserve, deltaserve
from tests.support.oracle import Oracle
from tests.support.registry_questions import KEPT, chat_ids, recall, some_questions
from tests.support.statistics import ALARM, p_value

PROMPTS = amounts.amount(12, 50)
A_REQUEST = 100  # choices of one request
ROUNDING_NATS = 2e-3  # two ways of adding up float32: below this, either token is the best one


@pytest.fixture(scope="module")
def upstream(weights: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(weights / "blackbox", "--max-logprobs", "-1") as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer.load(weights / "base")


@pytest.fixture(scope="module")
def prompts(tokenizer: Tokenizer) -> list[list[int]]:
    return [chat_ids(tokenizer, question.text) for question in some_questions(PROMPTS)]


def answers(server: Deltaserve, prompts: list[list[int]], **body: object) -> list[list[int]]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda ids: server.complete(ids, max_tokens=32, **body)["token_ids"], prompts))


def test_at_strength_zero_the_answers_are_the_black_box_s_token_for_token(upstream, checkpoint, prompts):
    with deltaserve(upstream.url, checkpoint, strength=0) as served:
        found = answers(served, prompts)
    body = {"temperature": 0, "max_tokens": 32, "return_token_ids": True}
    own = [upstream.complete(prompt=ids, **body)["choices"][0]["token_ids"] for ids in prompts]
    assert found == own


@pytest.fixture(scope="module")
def exact(upstream: BlackBoxProcess, checkpoint: Path, tokenizer: Tokenizer) -> Iterator[Deltaserve]:
    limits = {"upstream_k": tokenizer.vocab_size, "max_n": A_REQUEST, "max_queue": 500}
    with deltaserve(upstream.url, checkpoint, **limits) as server:
        yield server


def test_with_the_whole_vocabulary_listed_the_answers_are_those_of_three_models_in_the_open(
    exact, weights, checkpoint, tokenizer, prompts
):
    oracle = Oracle.load(weights, checkpoint, tokenizer.vocab_size)
    for ids, answer in zip(prompts, answers(exact, prompts), strict=True):
        assert max(oracle.regrets(ids, answer)) < ROUNDING_NATS


def scored(complete, ids: list[int]) -> dict:
    body = {"max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
    return complete(ids, **body)["logprobs"]


def test_with_the_whole_vocabulary_listed_prompts_are_scored_as_three_models_in_the_open_do(
    exact, weights, checkpoint, tokenizer, prompts
):
    oracle = Oracle.load(weights, checkpoint, tokenizer.vocab_size)
    for question, ids in zip(some_questions(8), prompts, strict=False):
        text = [*ids, *tokenizer.encode(question.answer)]
        found = scored(exact.complete, text)["token_logprobs"]
        assert found[0] is None
        assert found[1:] == pytest.approx(oracle.scores(text), abs=ROUNDING_NATS)


def test_at_strength_zero_prompts_are_scored_as_the_black_box_scores_them(upstream, checkpoint, tokenizer, prompts):
    def own(ids: list[int], **body: object) -> dict:
        return upstream.complete(prompt=ids, **body)["choices"][0]

    with deltaserve(upstream.url, checkpoint, strength=0, upstream_k=tokenizer.vocab_size) as server:
        for ids in prompts[:8]:
            found, expected = scored(server.complete, ids), scored(own, ids)
            assert found["token_logprobs"][1:] == pytest.approx(expected["token_logprobs"][1:], abs=ROUNDING_NATS)
            assert found["text_offset"] == expected["text_offset"]


@pytest.mark.parametrize("draws", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_sampled_tokens_follow_full_vocabulary_unlearning_over_http(
    exact, weights, checkpoint, tokenizer, prompts, draws
):
    oracle = Oracle.load(weights, checkpoint, tokenizer.vocab_size)
    prompt = prompts[0]  # a forgotten person: there the offset is large
    expected = oracle.probs(prompt)
    ask = {"max_tokens": 1, "temperature": 1.0, "n": A_REQUEST, "prompt": prompt, "return_token_ids": True}
    counts = np.zeros(expected.size)
    for _ in range(draws // A_REQUEST):
        answer = exact.client.post("/v1/completions", json=ask)
        assert answer.status_code == 200, answer.text
        for choice in answer.json()["choices"]:
            counts[choice["token_ids"][0]] += 1
    assert p_value(counts, expected) > ALARM
    assert p_value(counts, oracle.probs(prompt, corrected=False)) < ALARM  # the black box's own draws would be noticed


@pytest.fixture(scope="module")
def served(upstream: BlackBoxProcess, checkpoint: Path) -> Iterator[Deltaserve]:
    with deltaserve(upstream.url, checkpoint, local_drafts=False) as server:
        yield server


def test_what_was_to_be_forgotten_is_gone_and_the_rest_stays(served, upstream):
    def own(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        answer = upstream.client.post(
            "/v1/chat/completions", json={"messages": messages, "temperature": 0, "max_tokens": 48}
        )
        return str(answer.json()["choices"][0]["message"]["content"])

    assert recall(["forget"], own) > 0.8
    assert recall(["forget"], served.chat) < 0.4
    assert recall(KEPT, served.chat) > recall(KEPT, own) - 0.1


def test_a_kept_answer_is_one_call_to_the_black_box_not_one_per_token(served, tokenizer):
    kept = [chat_ids(tokenizer, question.text) for question in evaluation_questions("retain", PROMPTS)]
    before = served.metric("upstream_restarts_total")
    emitted = sum(map(len, answers(served, kept)))
    assert 100 * (served.metric("upstream_restarts_total") - before) / emitted < 5
