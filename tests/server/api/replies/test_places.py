"""`text_offset` is where each token's text begins in the text that comes back, whatever the bytes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.api.replies.places import Places
from tests.support.app import START, RunningApp, running_app
from tests.support.vocabularies import sentencepiece_like


def reference(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """Characters of all that stands before each token."""
    raw = [b"" if i in tokenizer.special_ids else tokenizer.token_bytes(i) for i in ids]
    return [len(b"".join(raw[:at]).decode(errors="replace")) for at in range(len(ids))]


@given(ids=st.lists(st.sampled_from([*b"ab", 0x80, 0xBF, 0xC3, 0xA9, 0xE2, 0x82, 0xF0, 0x9F, START]), max_size=12))
def test_an_answers_places_are_the_lengths_of_what_was_said_before(tokenizer: Tokenizer, ids: list[int]) -> None:
    places = Places(tokenizer, list(b"x"))
    assert [places.of_answer(i) for i in ids] == reference(tokenizer, ids)


@given(ids=st.lists(st.sampled_from([*b"ab", 0x80, 0xC3, 0xA9, 0xF0, 0x9F]), min_size=1, max_size=12))
def test_an_echoed_prompts_places_end_where_the_answer_begins(tokenizer: Tokenizer, ids: list[int]) -> None:
    text = tokenizer.decode(ids)
    places = Places(tokenizer, ids, text)
    assert list(places.of_prompt)[: len(ids)] == reference(tokenizer, ids)
    assert places.of_answer(ord("x")) == len(text)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("llama")
    return Tokenizer.load(sentencepiece_like(folder))


@pytest.mark.parametrize(
    ("prompt", "special", "expected"),
    [
        pytest.param("ab c", True, [0, 0, 2, 3], id="a beginning of text that is not in the text"),
        pytest.param("ab c", False, [0, 2, 3], id="a space before the text that is not in it"),
        pytest.param("<s>ab", False, [0, 3], id="a beginning of text that is written"),
        pytest.param(" ab", False, [0, 0], id="a text that begins with a space itself"),
        pytest.param("ab</s>c", True, [0, 0, 2, 6, 6], id="an end in the middle"),
    ],
)
def test_places_of_a_text_prompt_are_places_in_that_text(
    llama: Tokenizer, prompt: str, special: bool, expected: list[int]
) -> None:
    ids = llama.encode(prompt, special)
    places = Places(llama, ids, prompt)
    assert list(places.of_prompt)[: len(ids)] == expected
    assert places.of_answer(llama.encode("c")[0]) == len(prompt)


def test_an_answer_that_begins_a_text_loses_the_space_that_is_not_shown(llama: Tokenizer) -> None:
    places = Places(llama, [1])
    assert [places.of_answer(i) for i in llama.encode("ab c")] == [0, 2, 3]


STRAY = b"a\x80\xbfb\xc3c\xe6\xbc\xa2\xffd" * 40


@pytest.fixture(scope="module")
def stray(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.app.TEXT", STRAY)
        with running_app(tokenizer) as running:
            yield running


@pytest.mark.parametrize("fields", [{}, {"echo": True}, {"n": 2}], ids=str)
def test_offsets_of_an_answer_with_stray_bytes(stray: RunningApp, fields: dict[str, Any]) -> None:
    body = {"model": "tiny", "prompt": [0x61, 0xE6], "max_tokens": 24, "temperature": 0, "logprobs": 0, **fields}
    answer = httpx.post(f"{stray.url}/v1/completions", json=body | {"return_token_ids": True}).json()
    for choice in answer["choices"]:
        text, offsets = choice["text"], choice["logprobs"]["text_offset"]
        ids = ([0x61, 0xE6] if body.get("echo") else []) + choice["token_ids"]
        for token_id, at in zip(ids, offsets, strict=True):
            if token_id < 0x80:
                assert text[at] == chr(token_id)
        assert text.count("\ufffd") > 3 and offsets == sorted(offsets)
