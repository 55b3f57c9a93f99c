"""`echo` with `logprobs`: the prompt's own tokens, scored; judged by openai-python and by what lm-eval reads."""

import math
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import openai
import pytest

from deltaserve.errors import MalformedTopK, OffsetUnavailable
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.upstream.base import Capabilities
from tests.server.api.test_disconnect import sent
from tests.support.app import START, TEXT, RunningApp, ScriptedBlackBox, eventually, running_app

SAID = list(TEXT[1:9])  # what the black box itself would say, from its second position on
GREEDY = [TEXT[0], *SAID]
SCORE = {"model": "tiny", "temperature": 0, "logprobs": 1, "echo": True, "max_tokens": 1, "seed": 1234}
OUTSIDE = math.log(0.06 / 253)  # its list leaves 6 % to the other 253 ids, which the flat pair shares out evenly


def score(app: RunningApp, prompt: object, **fields: Any) -> dict[str, Any]:
    response = httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": prompt, **fields}, timeout=10)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def lists(answer: dict[str, Any], index: int = 0) -> dict[str, list[Any]]:
    choice = answer["choices"][index]
    assert choice["index"] == index
    lengths = {len(values) for values in choice["logprobs"].values()}
    assert len(lengths) == 1
    found: dict[str, list[Any]] = choice["logprobs"]
    return found


def billed(*, calls: int, prompt: int, completion: int, wasted: int) -> dict[str, int]:
    return {
        "upstream_calls": calls, "upstream_prompt_tokens": prompt, "upstream_cached_tokens": 0,
        "upstream_completion_tokens": completion, "upstream_wasted_tokens": wasted,
    }  # fmt: skip


def test_every_token_of_the_prompt_is_scored_and_one_more_is_generated(app: RunningApp) -> None:
    answer = score(app, "abxQ")
    found = lists(answer)
    assert answer["choices"][0]["text"] == "abxQe"
    assert found["tokens"] == ["a", "b", "x", "Q", "e"]
    assert found["text_offset"] == [0, 1, 2, 3, 4]
    expected = [math.log(0.6), math.log(0.15), OUTSIDE, math.log(0.6)]
    assert found["token_logprobs"][0] is None
    assert found["token_logprobs"][1:] == pytest.approx(expected, abs=1e-9)
    assert found["top_logprobs"][0] is None
    assert [set(top) for top in found["top_logprobs"][1:]] == [{"b"}, {"c", "x"}, {"d", "Q"}, {"e"}]
    assert answer["usage"].pop("deltaserve") == billed(calls=4, prompt=1 + 2 + 3 + 4, completion=4, wasted=3)
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}


def test_with_no_tokens_asked_for_the_prompt_alone_comes_back(app: RunningApp) -> None:
    answer = score(app, list(b"abxQ"), max_tokens=0)
    assert lists(answer)["tokens"] == ["a", "b", "x", "Q"]
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == ("abxQ", "length")
    assert answer["usage"].pop("deltaserve") == billed(calls=3, prompt=1 + 2 + 3, completion=3, wasted=3)
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}


@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_prompt_may_fill_the_context_when_only_it_is_scored(tokenizer: Tokenizer, left: int) -> None:
    with running_app(tokenizer, ScriptedBlackBox(max_context=40)) as app:
        prompt = (GREEDY * 5)[: 40 - left]
        scored = lists(score(app, prompt, max_tokens=0))
        assert len(scored["token_logprobs"]) == len(prompt)
        one_more = httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": prompt})
        assert one_more.status_code == (200 if left else 400)
        longer = [*prompt, *prompt][:41]
        assert httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": longer, "max_tokens": 0}).is_error


def test_lm_eval_reads_whether_the_continuation_is_greedy(app: RunningApp) -> None:
    def is_greedy(ids: list[int], context: int) -> bool:
        found = lists(score(app, [ids]))
        given = zip(found["token_logprobs"][context:-1], found["top_logprobs"][context:-1], strict=True)
        return all(logprob == max(top.values()) for logprob, top in given)

    assert is_greedy(GREEDY, 1)
    assert not is_greedy([*GREEDY[:-1], ord("z")], 1)
    assert not is_greedy([*GREEDY[:-1], ord("Q")], 1)


def test_text_and_id_prompts_in_lists_are_scored_each_for_itself(app: RunningApp) -> None:
    together = score(app, ["abxQ", "ab"])
    ids = score(app, [list(b"abxQ"), list(b"ab")])
    assert together["choices"] == ids["choices"]
    for index, prompt in enumerate(["abxQ", "ab"]):
        assert lists(together, index) == lists(score(app, prompt))
    assert together["usage"]["prompt_tokens"] == 6


def test_scoring_one_token_needs_no_upstream_call(app: RunningApp) -> None:
    before = app.box.calls
    assert lists(score(app, "a", max_tokens=0))["token_logprobs"] == [None]
    assert app.box.calls == before


def test_logprobs_0_gives_the_tokens_own_number_alone(app: RunningApp) -> None:
    found = lists(score(app, "abx", logprobs=0))
    assert [top and list(top) for top in found["top_logprobs"]] == [None, ["b"], ["x"], ["d"]]


def test_a_special_token_counts_as_the_text_that_it_is_echoed_as(app: RunningApp) -> None:
    answer = score(app, [START, *b"ab"], max_tokens=0)
    assert answer["choices"][0]["text"] == "<|im_start|>ab"
    assert lists(answer)["text_offset"] == [0, 12, 13]


def test_a_scored_stream_equals_the_scored_answer(app: RunningApp) -> None:
    with openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0) as client:
        fields: dict[str, Any] = {**SCORE, "prompt": "abxQ", "max_tokens": 3}
        whole = client.completions.create(**fields).choices[0]
        chunks = [chunk.choices[0] for chunk in client.completions.create(**fields, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == whole.text == "abxQefg"
    assert whole.logprobs is not None
    for name, values in whole.logprobs.model_dump().items():
        assert [v for chunk in chunks for v in getattr(chunk.logprobs, name) or ()] == values


def test_a_generated_answer_is_scored_as_it_was_generated(app: RunningApp) -> None:
    said = score(app, "abx", max_tokens=12, temperature=1.0, echo=False)["choices"][0]["logprobs"]
    ids = [int(name.removeprefix("token_id:")) for name in _ids(app)]
    again = lists(score(app, [*b"abx", *ids], max_tokens=0))
    assert again["token_logprobs"][3:] == pytest.approx(said["token_logprobs"], abs=1e-12)


def _ids(app: RunningApp) -> list[str]:
    fields = {"max_tokens": 12, "temperature": 1.0, "echo": False, "return_tokens_as_token_ids": True}
    names: list[str] = score(app, "abx", **fields)["choices"][0]["logprobs"]["tokens"]
    return names


def test_several_choices_of_a_scored_prompt_are_refused(app: RunningApp) -> None:
    response = httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": "ab", "n": 2})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "n"


class TextOnly(ScriptedBlackBox):
    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, ids_in=False)


def test_a_black_box_that_takes_text_only_is_a_400_that_says_so(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, TextOnly()) as app:
        response = httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": "ab"})
        assert response.status_code == 400
        assert "token ids" in response.json()["error"]["message"]
        assert app.box.calls == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_malformed_list_fails_the_score_and_nothing_of_it_is_sent(tokenizer: Tokenizer, stream: bool) -> None:
    with running_app(tokenizer, ScriptedBlackBox(fault=MalformedTopK("The list holds a NaN."))) as app:
        response = httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": "abx", "stream": stream})
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "upstream_malformed_top_k"
        eventually(app.idle)


def test_an_error_of_the_pair_is_raised_by_scoring(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer) as app:
        app.version.row_fault = OffsetUnavailable("The engine is gone.")
        response = httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": "abx", "max_tokens": 0})
        assert response.status_code == 503
        eventually(app.idle)


def test_leaving_stops_the_scoring(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, ScriptedBlackBox(first_delay_s=30)) as app:
        connection = sent(app, **SCORE)
        eventually(lambda: app.box.open > 0)
        connection.close()
        eventually(app.idle, within_s=1.0)


def test_scoring_waits_for_a_place_like_any_choice(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, max_streams=1, max_queue=1) as app:
        assert len(score(app, ["ab", "cd"])["choices"]) == 2
        response = httpx.post(f"{app.url}/v1/completions", json={**SCORE, "prompt": ["ab", "cd", "ef"]})
        assert response.status_code == 400
        assert "3 choices" in response.json()["error"]["message"]


def test_scored_tokens_and_their_calls_are_counted(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer) as app:
        score(app, "abxQ")
        metrics = httpx.get(f"{app.url}/metrics").text
    assert "deltaserve_scored_tokens_total 4.0" in metrics
    assert "deltaserve_upstream_calls_total 4.0" in metrics
    assert "deltaserve_generation_tokens_total 1.0" in metrics


def test_a_server_without_log_probabilities_gives_none_in_any_way(tokenizer: Tokenizer) -> None:
    prompt = {"model": "tiny", "prompt": GREEDY, "max_tokens": 2}
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    wanted = [
        ("/v1/completions", {**prompt, "echo": True, "logprobs": 0}),
        ("/v1/completions", {**prompt, "logprobs": 0}),
        ("/v1/completions", {**prompt, "logprobs": 1}),
        ("/v1/chat/completions", {**chat, "logprobs": True}),
        ("/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 1}),
    ]
    with running_app(tokenizer, max_logprobs=0) as app, httpx.Client(base_url=app.url) as client:
        for path, body in wanted:
            refused = client.post(path, json=body)
            assert refused.status_code == 400, body
            assert "gives no log-probabilities" in refused.json()["error"]["message"]
        for path, body in [("/v1/completions", {**prompt, "echo": True}), ("/v1/chat/completions", chat)]:
            assert client.post(path, json=body).json()["choices"][0]["logprobs"] is None
