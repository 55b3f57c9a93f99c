"""The whole server in front of real vLLM, which serves the demo's black box in float32: run by hand, for it is slow."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import jsonschema_rs
import numpy as np
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.listing.named import named_ids
from deltaserve.server.upstream.probing.connect import connect
from tests.support.app import eventually
from tests.support.deltaserve import Deltaserve, deltaserve, events, question
from tests.support.listening import listening_addresses
from tests.support.oracle import Oracle
from tests.support.registry_questions import FEW_QUESTIONS_APART, KEPT, TRICKY, chat_ids, recall, some_questions
from tests.support.vllm import COMMAND, Vllm, command, vllm

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(command() is None, reason=f"no vllm on PATH and no {COMMAND}"),
]

FLAGS = ("--enable-prompt-tokens-details", "--structured-outputs-config.backend", "guidance")
CARD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 16},
        "kind": {"enum": ["person", "town", "thing"]},
        "known": {"type": "boolean"},
    },
    "required": ["name", "kind", "known"],
    "additionalProperties": False,
}
NEARLY_EQUAL_NATS = 0.001  # what another order of float32 sums may change the order of


@pytest.fixture(scope="module")
def upstream(weights: Path) -> Iterator[Vllm]:
    with vllm(weights / "blackbox", *FLAGS) as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer.load(weights / "blackbox")


@pytest.fixture(scope="module")
def served(upstream: Vllm, checkpoint: Path) -> Iterator[Deltaserve]:
    with deltaserve(upstream.url, checkpoint) as server:
        yield server


@pytest.fixture(scope="module")
def uncorrected(upstream: Vllm, checkpoint: Path) -> Iterator[Deltaserve]:
    with deltaserve(upstream.url, checkpoint, strength=0) as server:
        yield server


def test_vllm_listens_on_loopback_only(upstream: Vllm):
    assert listening_addresses(upstream.process.popen.pid) == {"127.0.0.1"}


@pytest.mark.anyio
async def test_the_probe_finds_vllm_and_what_it_can_do(upstream: Vllm, tokenizer: Tokenizer):
    box = await connect(upstream.url, tokenizer=tokenizer, k=50)
    await box.aclose()
    found = box.capabilities
    assert found.dialect == "vllm"
    assert found.server.startswith("vLLM 0.")
    assert found.raw_logprobs and found.ids_in and found.ids_out and found.prompt_list and found.prompt_logprobs
    assert (found.k, found.max_k, found.vocab_size, found.max_context) == (20, 20, 2048, 1024)
    assert found.holds_forms and found.same_forms and found.list_masked
    assert found.named_ids == 0  # on CPUs vLLM has its V1 runner, where naming ids shortens the lists of other calls
    assert any("V1 model runner" in note for note in found.notes)


@pytest.mark.parametrize("text", TRICKY)
def test_vllm_makes_the_same_tokens_of_a_text(upstream: Vllm, tokenizer: Tokenizer, text: str):
    assert upstream.tokenize(text) == tokenizer.encode(text)


def test_strength_zero_gives_vllms_own_greedy_answers(upstream: Vllm, uncorrected: Deltaserve, tokenizer: Tokenizer):
    for asked in some_questions(20):
        ids = chat_ids(tokenizer, asked.text)
        assert uncorrected.complete(ids, max_tokens=40)["token_ids"] == upstream.greedy(ids, 40)


def test_every_greedy_token_is_the_best_of_the_three_models_full_vocabulary(
    served: Deltaserve, tokenizer: Tokenizer, weights: Path, checkpoint: Path
):
    oracle = Oracle.load(weights, checkpoint, tokenizer.vocab_size)
    for asked in some_questions(24):
        ids = chat_ids(tokenizer, asked.text)
        answer = served.complete(ids, max_tokens=40)["token_ids"]
        assert max(oracle.regrets(ids, answer)) < NEARLY_EQUAL_NATS


def test_forgotten_answers_are_gone_and_kept_ones_stay(served: Deltaserve, uncorrected: Deltaserve):
    assert recall(["forget"], uncorrected.chat) >= 0.9
    assert recall(["forget"], served.chat) <= 0.3
    assert recall(KEPT, served.chat) >= recall(KEPT, uncorrected.chat) - FEW_QUESTIONS_APART


def test_an_answer_comes_in_pieces_and_says_what_the_whole_one_says(served: Deltaserve):
    for asked in some_questions(4):
        pieces = served.chat_stream(asked.text)
        assert len(pieces) > 2
        assert "".join(pieces) == served.chat(asked.text)


def test_a_seeded_answer_repeats(served: Deltaserve):
    texts = {}
    for seed in (1, 2, 3):
        first, *again = [served.chat("Tell me a joke.", seed=seed, temperature=1.3) for _ in range(3)]
        assert again == [first, first]
        texts[seed] = first
    assert len(set(texts.values())) > 1


def test_a_client_that_leaves_ends_the_work_on_both_sides(served: Deltaserve, upstream: Vllm):
    before = served.metric("generation_tokens_total")
    asked = question("Hello!", max_tokens=900, ignore_eos=True, stream=True)
    with served.client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        next(events(answer))
    eventually(lambda: served.metric("num_requests_running") == upstream.running_requests() == 0, within_s=1.0)
    done = served.metric("generation_tokens_total")
    assert before < done < before + 900
    time.sleep(0.3)
    assert served.metric("generation_tokens_total") == done
    assert upstream.running_requests() == 0


@pytest.mark.anyio
async def test_leaving_a_draft_ends_vllms_request(upstream: Vllm, tokenizer: Tokenizer):
    box = await connect(upstream.url, tokenizer=tokenizer)
    async with box.draft(chat_ids(tokenizer, "Hello!"), DraftParams(temperature=2.0, max_tokens=900, seed=1)) as draft:
        await anext(aiter(draft))
        assert upstream.running_requests() == 1
    await anyio.to_thread.run_sync(eventually, lambda: upstream.running_requests() == 0, 1.0)
    await box.aclose()


def test_the_doctor_finds_nothing_to_mend(served: Deltaserve, checkpoint: Path):
    flags = ("--upstream-url", served.upstream, "--offsets-root", str(checkpoint.parent), "--offset", checkpoint.name)
    run = subprocess.run(
        [sys.executable, "-m", "deltaserve", "doctor", "--json", *flags], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "vllm" in json.dumps(json.loads(run.stdout))


@pytest.mark.anyio
async def test_ids_told_by_name_have_the_models_own_numbers(
    upstream: Vllm, tokenizer: Tokenizer, weights: Path, checkpoint: Path
):
    oracle = Oracle.load(weights, checkpoint, tokenizer.vocab_size)
    ids = np.arange(5, tokenizer.vocab_size, 41)
    prompts = [chat_ids(tokenizer, asked.text) for asked in some_questions(8)]
    box = await connect(upstream.url, tokenizer=tokenizer)
    names = named_ids(box.knowing(named_ids=128))  # nothing else runs, so that no list can come short
    assert names is not None
    for prompt, told in zip(prompts, await names.named(prompts, ids), strict=True):
        np.testing.assert_allclose(told, np.log(oracle.probs(prompt, corrected=False))[ids], atol=NEARLY_EQUAL_NATS)
    await box.aclose()


@pytest.mark.parametrize("told", [True, False])
def test_an_answer_of_a_schema_is_valid_whether_vllm_is_told_of_it_or_not(
    upstream: Vllm, checkpoint: Path, tokenizer: Tokenizer, *, told: bool
):
    blank = {str(i): -100 for i in range(tokenizer.vocab_size) if (raw := tokenizer.token_bytes(i)) and raw.isspace()}
    form = {"type": "json_schema", "json_schema": {"name": "card", "schema": CARD, "strict": True}}
    with deltaserve(upstream.url, checkpoint, upstream_grammars=told) as server:
        for asked in some_questions(12):
            for sampling in ({}, {"temperature": 1, "seed": 5}):
                sampling |= {"logit_bias": blank}
                text = server.chat(asked.text, max_tokens=200, response_format=form, **sampling)
                jsonschema_rs.validate(CARD, json.loads(text))
                assert "".join(server.chat_stream(asked.text, max_tokens=200, response_format=form, **sampling)) == text
        restarts, drawn = server.metric("upstream_restarts_total"), server.metric("generation_tokens_total")
        print(f"told {told}: {100 * restarts / drawn:.1f} restarts for 100 tokens")
