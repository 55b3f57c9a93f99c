"""Parts of the embedded black box on their own: texts of tokens, slots as a cache, the pace of a job."""

import asyncio
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from deltaserve.offset_models.demo.blackbox.generation.params import SamplingParams
from deltaserve.offset_models.demo.blackbox.generation.prefix import Lease, SlotCache
from deltaserve.offset_models.demo.blackbox.generation.sequence import Event, Job, Token
from deltaserve.offset_models.demo.blackbox.generation.text import Detokenizer, TokenTexts
from deltaserve.offset_models.demo.blackbox.options import Options
from tests.support.blackbox import make_model

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_file(str(make_model(tmp_path_factory.mktemp("model")) / "tokenizer.json"))


def spelled_bytes(tokenizer: Tokenizer, text: str) -> list[int]:
    """The text's ids, one for each byte."""
    alphabet = {c: i for c, i in tokenizer.get_vocab().items() if len(c) == 1}
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)  # type: ignore[union-attr]
    return [alphabet[c] for piece, _ in pieces for c in piece]


def test_a_character_split_over_tokens_shows_whole_at_its_last_one(tokenizer: Tokenizer) -> None:
    texts = TokenTexts(tokenizer, tokenizer.get_vocab_size())
    ids = spelled_bytes(tokenizer, "a🙂é")
    shown = [texts.display(token_id, ids[:at]) for at, token_id in enumerate(ids)]
    assert shown == ["a", "", "", "", "🙂", "", "é"]


def test_text_that_may_become_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    out = Detokenizer(tokenizer, ["xyz"], include_stop=False, skip_special=True)
    given = []
    for token_id in spelled_bytes(tokenizer, "abxyq"):
        assert out.push(token_id) is None
        given.append(out.take(finished=False))
    assert given == ["", "", "a", "b", "x"]
    assert [out.push(i) for i in spelled_bytes(tokenizer, "xyz")] == [None, None, "xyz"]
    assert out.take(finished=True) == "yq"


@pytest.mark.parametrize(
    ("stops", "early", "said", "matched"),
    [
        (["bcd"], 3, "a", "bcd"),  # it begins early and is complete later
        (["bcd"], 4, "abcdef", None),  # as vLLM: complete with the last token that must come, and not cut out
        (["abc", "cde"], 3, "ab", "cde"),
    ],
)
def test_stop_strings_that_early_tokens_complete_are_passed_over(
    tokenizer: Tokenizer, stops: list[str], early: int, said: str, matched: str | None
) -> None:
    out, found, text = Detokenizer(tokenizer, stops, include_stop=False, skip_special=True), None, ""
    for number, letter in enumerate("abcdef", start=1):
        found = out.push(tokenizer.token_to_id(letter), early=number <= early)
        text += out.take(finished=found is not None or number == 6)
        if found:
            break
    assert (text, found) == (said, matched)


def test_a_stop_string_is_kept_when_asked_for(tokenizer: Tokenizer) -> None:
    out = Detokenizer(tokenizer, ["b"], include_stop=True, skip_special=True)
    assert [out.push(i) for i in spelled_bytes(tokenizer, "ab")] == [None, "b"]
    assert out.take(finished=True) == "ab"


def test_a_freed_slot_serves_the_prompt_that_begins_alike() -> None:
    cache = SlotCache(3, 16, reuse=True)
    first = cache.acquire([1, 2, 3, 4], None, limit=3)
    assert first == Lease(0, 0)
    cache.extend(0, [1, 2, 3, 4])
    beside = cache.acquire([1, 2, 9], None, limit=2)
    assert beside == Lease(1, 2, copy_from=0)
    cache.extend(1, [9])
    cache.release(0)
    assert cache.acquire([1, 2, 3, 4, 5], None, limit=4) == Lease(0, 4)
    assert cache.acquire([1, 2, 9, 9], "salt", limit=3) == Lease(2, 0)
    assert cache.acquire([7], None, limit=0) is None


def test_rewinding_a_slot_forgets_what_it_held_behind_the_prefix() -> None:
    cache = SlotCache(1, 16, reuse=True)
    cache.acquire([1, 2, 3, 4, 5], None, limit=4)
    cache.extend(0, [1, 2, 3, 4, 5])
    cache.release(0)
    assert cache.acquire([1, 2, 9], None, limit=2) == Lease(0, 2)
    cache.extend(0, [9])
    cache.release(0)
    assert cache.acquire([1, 2, 3, 4, 5], None, limit=4) == Lease(0, 2)


def test_without_reuse_nothing_is_cached() -> None:
    cache = SlotCache(1, 16, reuse=False)
    cache.acquire([1, 2], None, limit=1)
    cache.extend(0, [1, 2])
    cache.release(0)
    assert cache.acquire([1, 2, 3], None, limit=2) == Lease(0, 0)


def token(due: float, finish: str | None = None) -> Token:
    return Token(1, None, [], [], "", due, finish)


async def test_a_job_gives_tokens_in_the_order_they_are_due_and_never_before() -> None:
    job = Job(SamplingParams(max_tokens=9), None, asyncio.get_running_loop())
    job.open = 2
    now = time.monotonic()
    dues = {0: now + 0.08, 1: now + 0.03}
    job.deliver([Event(0, token(dues[0], "stop"))])
    asyncio.get_running_loop().call_later(0.01, job.deliver, [Event(1, token(dues[1], "stop"))])
    order = []
    async for events in job.batches():
        order += [event.index for event in events]
        assert all(time.monotonic() >= dues[event.index] - 0.001 for event in events)
    assert order == [1, 0]


async def test_a_cancelled_job_ends_the_wait_on_it() -> None:
    job = Job(SamplingParams(max_tokens=9), None, asyncio.get_running_loop())
    job.open = 1
    asyncio.get_running_loop().call_soon(job.cancel)
    assert [events async for events in job.batches()] == []


@pytest.mark.parametrize(
    "wrong", [{"slots": 1}, {"tokens_per_chunk": 0}, {"ms_per_token": -1}, {"dtype": "int8"}, {"max_logprobs": -2}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|cannot be"):
        Options(model=Path(), **wrong)  # type: ignore[arg-type]
