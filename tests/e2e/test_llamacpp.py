"""The whole server in front of llama.cpp, both as processes: a GGUF of the demo's black box, and one of many bytes."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

from deltaserve.offset_models.demo.pipeline.gguf_export import export
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.listing.choosing import method_for_texts
from deltaserve.server.upstream.listing.greedy import greedy_answer
from deltaserve.server.upstream.listing.prompt_list import PromptList
from deltaserve.server.upstream.probing.connect import connect
from tests.support import chain
from tests.support.app import eventually
from tests.support.blackbox import PADDING, forward, make_model
from tests.support.deltaserve import Deltaserve, deltaserve, events, question
from tests.support.llamacpp import LlamaCpp, llamacpp
from tests.support.oracle import Oracle
from tests.support.registry_questions import FEW_QUESTIONS_APART, KEPT, TRICKY, chat_ids, recall, some_questions

pytestmark = pytest.mark.llamacpp

NEARLY_EQUAL_NATS = 0.02  # what half-precision keys and values may change the order of


@pytest.fixture(scope="module")
def gguf(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    export(weights / "blackbox", file)
    return file


@pytest.fixture(scope="module")
def upstream(gguf: Path) -> Iterator[LlamaCpp]:
    with llamacpp(gguf) as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer.load(weights / "blackbox")


@pytest.fixture(scope="module")
def served(upstream: LlamaCpp, checkpoint: Path) -> Iterator[Deltaserve]:
    with deltaserve(upstream.url, checkpoint) as server:
        yield server


@pytest.fixture(scope="module")
def uncorrected(upstream: LlamaCpp, checkpoint: Path) -> Iterator[Deltaserve]:
    with deltaserve(upstream.url, checkpoint, strength=0) as server:
        yield server


@pytest.mark.anyio
async def test_the_probe_finds_llamacpp_and_what_it_can_do(upstream: LlamaCpp, tokenizer: Tokenizer):
    box = await connect(upstream.url, tokenizer=tokenizer)
    await box.aclose()
    found = box.capabilities
    assert found.dialect == "llamacpp"
    assert found.raw_logprobs and found.ids_in and found.ids_out and found.prompt_list
    assert (found.k, found.vocab_size, found.max_context) == (20, 2048, 1024)
    assert found.prefix_cache is True


@pytest.mark.anyio
async def test_without_its_prefix_cache_an_answer_does_not_depend_on_those_before(
    upstream: LlamaCpp, tokenizer: Tokenizer
):
    box = await connect(upstream.url, tokenizer=tokenizer, prefix_cache=False)
    prompt = chat_ids(tokenizer, "Hello! What is the capital of France?")
    _, first = await greedy_answer(box, prompt, 8, tokenizer.eos_ids)
    await greedy_answer(box, prompt[:-6], 8, tokenizer.eos_ids)
    _, again = await greedy_answer(box, prompt, 8, tokenizer.eos_ids)
    assert [listed.top_logprobs.tolist() for listed in again] == [listed.top_logprobs.tolist() for listed in first]
    await box.aclose()


@pytest.mark.parametrize("text", TRICKY)
def test_llamacpp_makes_the_same_tokens_of_a_text(upstream: LlamaCpp, tokenizer: Tokenizer, text: str):
    assert upstream.tokenize(text) == tokenizer.encode(text, False)


@pytest.mark.parametrize(("kind", "nats"), [("f32", 0.01), ("f16", 0.02), ("bf16", 0.1)])
def test_llamacpp_computes_from_the_gguf_what_transformers_does_from_the_folder(tmp_path: Path, kind: str, nats: float):
    folder = make_model(tmp_path / "model")  # grouped heads, an output matrix of its own, padded rows
    export(folder, tmp_path / "model.gguf", kind)
    ids = list(range(5, 45))  # llama.cpp keeps keys and values in half precision: a few thousandths of a nat
    wanted = forward(folder, ids)[-1]
    with llamacpp(tmp_path / "model.gguf") as server:
        found = server.top(ids, wanted.numel() + PADDING)
    known = [token_id for token_id in found if token_id < wanted.numel()]
    mass = math.log(sum(math.exp(found[token_id]) for token_id in known))  # llama.cpp counts padded rows in
    assert len(known) == wanted.numel()
    assert max(abs(found[i] - mass - wanted[i].item()) for i in known) < nats


def test_strength_zero_gives_llamacpps_own_greedy_answers(
    upstream: LlamaCpp, uncorrected: Deltaserve, tokenizer: Tokenizer
):
    for asked in some_questions(20):
        ids = chat_ids(tokenizer, asked.text)
        assert uncorrected.complete(ids, max_tokens=40)["token_ids"] == upstream.greedy(ids, 40)


@pytest.mark.anyio
async def test_a_block_of_drafts_has_the_lists_of_the_same_positions_asked_one_by_one(
    upstream: LlamaCpp, tokenizer: Tokenizer
):
    box = await connect(upstream.url, tokenizer=tokenizer)
    prefix, greedy = chat_ids(tokenizer, "Hello!"), DraftParams(0.0, 1)
    drafted = tokenizer.encode("Hello! How are é 🙂")
    block = await PromptList(box).block(prefix, drafted, greedy)
    for at, listed in enumerate(block.proposals):
        async with box.draft([*prefix, *drafted[:at]], greedy) as draft:
            alone = await anext(aiter(draft))
        assert listed.top_ids[0] == alone.top_ids[0]
        assert listed.top_logprobs == pytest.approx(alone.top_logprobs, abs=NEARLY_EQUAL_NATS)
    await box.aclose()


@pytest.mark.anyio
async def test_a_text_forced_by_a_grammar_has_the_lists_of_single_steps(upstream: LlamaCpp, tokenizer: Tokenizer):
    box = await connect(upstream.url, tokenizer=tokenizer)
    prefix = chat_ids(tokenizer, "Hello!")
    text = [*tokenizer.encode("Hello! How are é 🙂"), *tokenizer.answer_end]
    assert method_for_texts(box).name == "grammar"
    by_grammar = await method_for_texts(box).lists(prefix, text)
    by_steps = await method_for_texts(box, "steps").lists(prefix, text)
    assert len(by_grammar) == len(by_steps) == len(text)
    for listed, alone in zip(by_grammar, by_steps, strict=True):
        assert listed.top_ids[0] == alone.top_ids[0]
        assert listed.top_logprobs == pytest.approx(alone.top_logprobs, abs=NEARLY_EQUAL_NATS)
    await box.aclose()


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
        assert len(pieces) > 1  # those that came together are one
        assert "".join(pieces) == served.chat(asked.text)


def test_a_seeded_answer_repeats_whatever_was_cached(served: Deltaserve):
    texts = {}
    for seed in (1, 2, 3):
        first, *again = [served.chat("Tell me a joke.", seed=seed, temperature=1.3) for _ in range(3)]
        assert again == [first, first]
        texts[seed] = first
    assert len(set(texts.values())) > 1


def test_a_client_that_leaves_ends_the_work_on_both_sides(served: Deltaserve, upstream: LlamaCpp):
    before = served.metric("generation_tokens_total")
    asked = question("Hello!", max_tokens=900, ignore_eos=True, stream=True)
    with served.client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        next(events(answer))
    eventually(lambda: served.metric("num_requests_running") == upstream.busy_slots() == 0, within_s=1.0)
    done = served.metric("generation_tokens_total")
    assert before < done < before + 900
    time.sleep(0.3)
    assert served.metric("generation_tokens_total") == done
    assert upstream.busy_slots() == 0


@pytest.mark.anyio
async def test_leaving_a_draft_ends_llamacpps_request(upstream: LlamaCpp, tokenizer: Tokenizer):
    box = await connect(upstream.url, tokenizer=tokenizer)
    async with box.draft(chat_ids(tokenizer, "Hello!"), DraftParams(temperature=2.0, max_tokens=900, seed=1)) as draft:
        await anext(aiter(draft))
        assert upstream.busy_slots() == 1
    await anyio.to_thread.run_sync(eventually, lambda: upstream.busy_slots() == 0, 1.0)
    await box.aclose()


@pytest.fixture(scope="module")
def chain_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    export(chain.make_black_box(folder / "blackbox"), folder / "chain.gguf")
    return folder / "chain.gguf"


@pytest.fixture(scope="module")
def chain_served(chain_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deltaserve]:
    """In front of an address where nobody is any more; a test starts llama.cpp there for as long as it wants.

    Without local blocks: they are chosen by measured times, and where a block is scored nothing is swallowed.
    """
    checkpoint = chain.make_offset(tmp_path_factory.mktemp("offsets"))
    with ExitStack() as stack:
        with llamacpp(chain_gguf) as upstream:
            served = stack.enter_context(deltaserve(upstream.url, checkpoint, upstream_ping_s=0.2, local_drafts=False))
        yield served


@contextmanager
def chain_upstream(gguf: Path, served: Deltaserve) -> Iterator[LlamaCpp]:
    with llamacpp(gguf, port=served.upstream_port) as upstream:
        eventually(lambda: served.status("/health/ready") == 200)
        yield upstream


def test_characters_that_llamacpp_swallows_come_out_whole_and_are_counted(chain_gguf: Path, chain_served: Deltaserve):
    times, size = 4, len(chain.TEXT.encode())
    with chain_upstream(chain_gguf, chain_served) as upstream:
        answer = chain_served.complete(upstream.tokenize("."), max_tokens=times * size)
    assert answer["text"] == times * chain.TEXT
    assert times <= chain_served.metric("swallowed_tokens_total") <= times * size
    assert chain_served.metric("blind_tokens_total") == 0


def test_sampled_bytes_give_valid_text_and_seeds_repeat(chain_gguf: Path, chain_served: Deltaserve):
    with chain_upstream(chain_gguf, chain_served) as upstream:
        for seed in range(4):
            asked = {"temperature": 1.0, "seed": seed, "max_tokens": 40}
            first, again = (chain_served.complete(upstream.tokenize("."), **asked) for _ in range(2))
            assert first == again
            assert len(first["token_ids"]) == 40 or first["finish_reason"] == "stop"
            assert first["text"].encode()


def test_a_killed_upstream_is_a_clear_error_and_the_server_goes_on_when_it_is_back(
    chain_gguf: Path, chain_served: Deltaserve
):
    with chain_upstream(chain_gguf, chain_served) as upstream:
        asked = {"prompt": upstream.tokenize("."), "max_tokens": 900, "stream": True}
        with chain_served.client.stream("POST", "/v1/completions", json=asked) as answer:
            said = events(answer)
            assert json.loads(next(said))["choices"]
            upstream.process.kill()
            *_, last = said
    assert json.loads(last)["error"]["type"] == "upstream_error"
    assert chain_served.status("/health/live") == 200
    eventually(lambda: chain_served.status("/health/ready") == 503)
    refused = chain_served.client.post("/v1/completions", json=asked | {"stream": False})
    assert refused.status_code == 502
    assert "choices" not in refused.json()
    with chain_upstream(chain_gguf, chain_served):
        answer = chain_served.complete(asked["prompt"], max_tokens=len(chain.TEXT.encode()))
        assert answer["text"] == chain.TEXT
