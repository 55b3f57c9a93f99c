"""Ids asked for by name, seen by a client: a greedy answer is that of the whole vocabulary, and says what it is."""

import numpy as np
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.rows import NumpyRow
from tests.server.upstream.test_through_the_app import PROMPT, TOKENS, K, ask, in_front_of, replayed, vllm
from tests.support.app import VOCAB, FlatVersion, byte_tokenizer
from tests.support.fake_upstream import FakeUpstream

OFFSET = np.random.default_rng(11).normal(0.0, 2.0, VOCAB)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def lifting(tokenizer: Tokenizer) -> FlatVersion:
    """A pair whose offset is the same everywhere, and large for many ids."""
    return FlatVersion(tokenizer, flat=NumpyRow(np.full(VOCAB, -np.log(VOCAB)), OFFSET))


def whole_answer(fake: FakeUpstream) -> list[int]:
    """Greedy, of all that the black box and the pair say of the vocabulary."""
    ids: list[int] = []
    while len(ids) < TOKENS:
        ids.append(int(np.argmax(np.array(fake._listed([*PROMPT, *ids], 1.0)) + OFFSET)))
    return ids


def named_calls(text: str) -> float:
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("deltaserve_named_calls_total"))


def test_a_greedy_answer_is_that_of_the_whole_vocabulary_and_names_what_it_is(tokenizer: Tokenizer) -> None:
    fake, whole = vllm(names=True), whole_answer(vllm())
    found = {}
    with replayed(fake) as (replay, _):
        for setting in ("off", "always"):
            with in_front_of(replay, tokenizer, lifting(tokenizer), named_ids=setting) as client:
                answer = ask(client)
                assert answer.status_code == 200, answer.text
                calls = named_calls(client.get("/metrics").text)
            found[setting] = answer.json()["choices"][0]["token_ids"], answer.json()["system_fingerprint"], calls
    assert found["always"][0] == whole and found["off"][0] != whole  # of which a list of K knows too little
    assert found["always"][1].endswith("+named") and "+named" not in found["off"][1]
    assert found["always"][2] > 0 == found["off"][2]
    asked = [body for body in replay.bodies() if "logprob_token_ids" in body]
    assert all(1 <= body["max_tokens"] <= 8 and len(body["logprob_token_ids"]) <= 128 for body in asked)
    assert K < VOCAB


def test_a_black_box_that_tells_none_is_served_as_before(tokenizer: Tokenizer) -> None:
    version = lifting(tokenizer)
    with (
        replayed(vllm()) as (replay, _),
        in_front_of(replay, tokenizer, version, named_ids="always") as client,
    ):
        answer = ask(client).json()
        assert named_calls(client.get("/metrics").text) == 0
    assert "+named" not in answer["system_fingerprint"]
    assert len(answer["choices"][0]["token_ids"]) == TOKENS
