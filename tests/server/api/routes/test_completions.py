"""POST /v1/completions, judged by openai-python."""

from collections.abc import Iterable
from typing import Any

import openai
import pytest
from openai.types import Completion

from tests.support.app import END, TEXT, RunningApp, eventually, running_app


def joined(chunks: Iterable[Completion]) -> dict[int, dict[str, Any]]:
    """Choices of a stream put together, by index."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk.choices:
            choice = choices.setdefault(part.index, {"text": "", "logprobs": None, "token_ids": []})
            choice["text"] += part.text
            choice["finish_reason"] = part.finish_reason
            choice["stop_reason"] = part.model_extra["stop_reason"]
            choice["token_ids"] += part.model_extra.get("token_ids", [])
            choice["prompt_token_ids"] = choice.get("prompt_token_ids") or part.model_extra.get("prompt_token_ids")
            if part.logprobs:
                choice["logprobs"] = choice["logprobs"] or {}
                for name, values in part.logprobs.model_dump().items():
                    choice["logprobs"].setdefault(name, []).extend(values)
    return choices


def whole(answer: Completion) -> dict[int, dict[str, Any]]:
    return {
        choice.index: {
            "text": choice.text,
            "logprobs": choice.logprobs and choice.logprobs.model_dump(),
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.model_extra["stop_reason"],
            "token_ids": choice.model_extra["token_ids"],
            "prompt_token_ids": choice.model_extra["prompt_token_ids"],
        }
        for choice in answer.choices
    }


def test_a_greedy_completion_says_what_the_black_box_says_when_the_offset_is_flat(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=15)
    assert answer.choices[0].text.encode() == TEXT[5:20]
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 15, 20)
    assert answer.system_fingerprint == "ds-flat-0123456789ab"
    assert answer.model == "tiny"
    assert answer.id.startswith("cmpl-")


def test_max_tokens_is_16_when_not_given(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="hello", temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


@pytest.mark.parametrize("logprobs", [None, 0, 3])
def test_a_seeded_stream_equals_the_seeded_answer_field_by_field(client: openai.OpenAI, logprobs: int | None) -> None:
    request: dict[str, Any] = {
        "model": "tiny",
        "prompt": ["hello", "abc"],
        "n": 2,
        "seed": 7,
        "max_tokens": 30,
        "logprobs": logprobs,
        "stop": "xx",
        "extra_body": {"return_token_ids": True},
    }
    answer = client.completions.create(**request)
    streamed = list(client.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert joined(streamed) == whole(answer)
    assert sorted(whole(answer)) == [0, 1, 2, 3]
    assert streamed[-1].choices == []
    assert streamed[-1].usage == answer.usage
    assert {chunk.system_fingerprint for chunk in streamed} == {answer.system_fingerprint}


def test_choices_of_one_prompt_differ_and_do_not_depend_on_their_place_in_the_batch(client: openai.OpenAI) -> None:
    shared: dict[str, Any] = {"model": "tiny", "n": 2, "seed": 3, "max_tokens": 40}
    alone = client.completions.create(prompt="other", **shared).choices
    batch = client.completions.create(prompt=["hello", "other"], **shared).choices
    assert [choice.text for choice in alone] == [choice.text for choice in batch[2:]]
    assert alone[0].text != alone[1].text


def test_legacy_logprobs_are_aligned_with_the_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=12, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None and logprobs.text_offset is not None
    text = answer.choices[0].text
    assert [text[at] for at in logprobs.text_offset[:4]] == logprobs.tokens[:4]
    assert logprobs.tokens[4:6] == ["bytes:\\xc3", "bytes:\\xa9"]
    assert logprobs.top_logprobs is not None and logprobs.token_logprobs is not None
    assert all(len(top) == 2 for top in logprobs.top_logprobs)
    assert logprobs.top_logprobs[0]["f"] == pytest.approx(logprobs.token_logprobs[0])


def test_zero_logprobs_give_the_emitted_token_only(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=1, logprobs=0)
    assert answer.choices[0].logprobs is not None
    assert [list(top) for top in answer.choices[0].logprobs.top_logprobs or []] == [["f"]]


def test_tokens_can_be_named_by_their_ids(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="tiny", prompt="hello", temperature=0, max_tokens=1, logprobs=1,
        extra_body={"return_tokens_as_token_ids": True},
    )  # fmt: skip
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == [f"token_id:{ord('f')}"]
    assert list((answer.choices[0].logprobs.top_logprobs or [{}])[0]) == [f"token_id:{ord('f')}"]


def test_echo_puts_the_prompt_first(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=3, echo=True)
    assert answer.choices[0].text == "hellofgh"
    stream = client.completions.create(
        model="tiny", prompt="hello", temperature=0, max_tokens=3, echo=True, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == "hellofgh"


def test_echo_without_tokens_asks_nothing_of_the_black_box(client: openai.OpenAI, app: RunningApp) -> None:
    before = app.box.calls
    answer = client.completions.create(model="tiny", prompt=[104, 105], max_tokens=0, echo=True)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("hi", "length")
    assert app.box.calls == before


def test_a_stop_string_ends_the_text_before_it_and_is_named(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=30, stop=["漢", "zz"])
    assert answer.choices[0].text == "fgh é "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].model_extra is not None
    assert answer.choices[0].model_extra["stop_reason"] == "漢"


def test_the_end_token_stops_and_has_no_text(tokenizer: Any) -> None:
    with running_app(tokenizer) as app, openai.OpenAI(base_url=f"{app.url}/v1", api_key="k") as client:
        app.box.ends_at = 8
        answer = client.completions.create(
            model="tiny", prompt="hello", temperature=0, max_tokens=30, logprobs=0,
            extra_body={"return_token_ids": True},
        )  # fmt: skip
        choice = answer.choices[0]
        assert (choice.text, choice.finish_reason) == ("fgh", "stop")
        assert choice.model_extra is not None
        assert choice.model_extra["token_ids"] == [*b"fgh", END]
        assert choice.model_extra["stop_reason"] is None
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 4


def test_no_usage_chunk_unless_asked(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=3, stream=True))
    assert {len(chunk.choices) for chunk in chunks} == {1}
    assert all(chunk.usage is None for chunk in chunks)


def test_tokens_that_came_together_share_a_chunk_that_tells_of_each(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 30, "logprobs": 2}
    more = {"return_token_ids": True}
    whole = client.completions.create(**asked, extra_body=more).choices[0]
    chunks = [chunk.choices[0] for chunk in client.completions.create(**asked, stream=True, extra_body=more)]
    ids = [chunk.model_extra["token_ids"] for chunk in chunks if chunk.model_extra is not None]
    assert len(chunks) < 30 and [i for some in ids for i in some] == (whole.model_extra or {})["token_ids"]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    lists = [chunk.logprobs for chunk in chunks if chunk.logprobs is not None]
    assert [len(each.tokens or ()) for each in lists] == list(map(len, ids))
    assert whole.logprobs is not None
    for column in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [value for each in lists for value in getattr(each, column)] == getattr(whole.logprobs, column)
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]


def test_several_choices_stream_interleaved(tokenizer: Any) -> None:
    with running_app(tokenizer) as app, openai.OpenAI(base_url=f"{app.url}/v1", api_key="k") as client:
        app.box.delay_s = 0.01
        stream = client.completions.create(model="tiny", prompt="hello", n=2, temperature=0, max_tokens=4, stream=True)
        order = [choice.index for chunk in stream for choice in chunk.choices]
        assert sorted(order) == [0] * 4 + [1] * 4
        assert order != sorted(order)


def test_nothing_is_left_open_after_answers(client: openai.OpenAI, app: RunningApp) -> None:
    client.completions.create(model="tiny", prompt="hello", n=3, max_tokens=5)
    eventually(app.idle)
