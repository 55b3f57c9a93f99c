"""What goes wrong is said in one shape, with a status and a sentence, before or after the first token."""

import json
import logging
from typing import Any

import httpx2 as httpx
import openai
import pytest

from deltaserve.errors import (
    MalformedTopK,
    NoOffset,
    OffsetUnavailable,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from tests.support.app import RunningApp, ScriptedBlackBox, eventually, running_app

OK = {"model": "tiny", "prompt": "hello", "max_tokens": 4}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}


def post(app: RunningApp, body: Any, path: str = "/v1/completions", **more: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **more.pop("headers", {})}
    return httpx.post(app.url + path, content=content, headers=headers, timeout=10, **more)


def error_of(response: httpx.Response) -> dict[str, Any]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("temperature", 2.1, "a number from 0 (greedy) to 2"),
        ("temperature", "hot", "a number from 0 (greedy) to 2"),
        ("temperature", True, "a number from 0 (greedy) to 2"),
        ("top_p", -0.1, "a number from 0"),
        ("top_k", -2, "a whole number; 0 or -1 turns it off"),
        ("min_p", 1.5, "a number from 0 to 1"),
        ("presence_penalty", 3, "a number from -2 to 2"),
        ("repetition_penalty", 0, "a number above 0"),
        ("seed", 2**63, "a 64-bit whole number"),
        ("n", 0, "a whole number"),
        ("n", 17, "a whole number from 1 to 16"),
        ("max_tokens", -1, "a whole number, 1 or more"),
        ("max_tokens", 0, "1 or more"),
        ("logprobs", 21, "a whole number from 0 to 20"),
        ("logprobs", -1, "a whole number"),
        ("stop", [""], "a non-empty string"),
        ("stop", ["a"] * 17, "at most 16"),
        ("allowed_token_ids", [], "at least one"),
        ("allowed_token_ids", [300], "not in the vocabulary"),
        ("bad_words", [""], "non-empty strings"),
        ("truncate_prompt_tokens", 0, "1 or more"),
        ("logit_bias", {"1": 101}, "numbers from -100 to 100"),
        ("logit_bias", {"one": 1}, "token id"),
        ("logit_bias", {"258": 1}, "not in the vocabulary"),
        ("stop_token_ids", [300], "not in the vocabulary"),
        ("min_tokens", 5, "more than the 4 tokens"),
        ("best_of", 0, "equal to n"),
        ("stream", "yes", "true or false"),
        ("stream_options", {"include_usage": True}, "`stream`"),
        ("prompt", [258], "not in the vocabulary"),
        ("prompt", [-1], "a list of token ids"),
        ("prompt", "", "empty"),
        ("prompt", [], "empty"),
        ("prompt", [[]], "empty"),
        ("prompt", {"a": 1}, "a string, a list of strings"),
        ("prompt", ["a"] * 257, "at most 256"),
    ],
)  # fmt: skip
def test_a_bad_value_is_a_400_naming_the_field_and_what_it_accepts(
    app: RunningApp, field: str, value: Any, accepted: str
) -> None:
    calls = app.box.calls
    response = post(app, {**OK, field: value})
    error = error_of(response)
    assert response.status_code == 400
    assert error["param"] == field
    assert accepted in error["message"]
    assert error["type"] == "invalid_request_error"
    assert app.box.calls == calls


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("completions", {**OK, "suffix": "x"}),
        ("completions", {**OK, "best_of": 3}),
        ("completions", {**OK, "echo": True, "logprobs": 1, "n": 2}),
        ("completions", {**OK, "guided_regex": "a+", "echo": True, "logprobs": 1}),
        ("completions", {**OK, "max_completion_tokens": 3}),
        ("completions", {**OK, "prompt_logprobs": 1}),
        ("completions", {**OK, "logprob_token_ids": [1]}),
        ("chat/completions", {**CHAT, "truncate_prompt_tokens": 5}),
        ("chat/completions", {**CHAT, "tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("chat/completions", {**CHAT, "tools": [{"type": "web_search"}], "tool_choice": "auto"}),
        ("chat/completions", {**CHAT, "best_of": 2}),
        ("chat/completions", {**CHAT, "functions": [{"name": "f"}]}),
        ("chat/completions", {**CHAT, "modalities": ["text", "audio"]}),
        ("chat/completions", {**CHAT, "audio": {"voice": "alloy"}}),
        ("chat/completions", {**CHAT, "reasoning_effort": "low"}),
        ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    ],
)
def test_what_is_not_built_is_refused_and_never_ignored(app: RunningApp, path: str, body: Any) -> None:
    response = post(app, body, f"/v1/{path}")
    assert response.status_code == 400
    assert error_of(response)["code"] == "unsupported_parameter"


def test_a_misspelled_field_is_refused_naming_the_right_one(app: RunningApp) -> None:
    for wrong, right in {"repetion_penalty": "repetition_penalty", "return_tokens_id": "return_token_ids"}.items():
        response = post(app, {**OK, wrong: 1})
        assert response.status_code == 400
        assert f"`{right}`" in error_of(response)["message"]


def test_fields_that_ask_for_nothing_and_unknown_ones_are_ignored(app: RunningApp) -> None:
    extra = {"metadata": {"a": "b"}, "store": False, "service_tier": "auto", "user": "u", "x_anything": [1]}
    neutral = {"best_of": 1, "suffix": None, "temperature": None, "top_k": -1, "response_format": {"type": "text"}}
    assert post(app, {**OK, **extra, **neutral}).status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"", b"\xff", b'{"prompt": "\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_400(app: RunningApp, body: bytes) -> None:
    response = post(app, body)
    assert response.status_code == 400
    error_of(response)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_refused(app: RunningApp, number: bytes) -> None:
    response = post(app, b'{"model": "tiny", "prompt": "a", "temperature": %b}' % number)
    assert response.status_code == 400
    assert error_of(response)["param"] == "temperature"


def test_a_prompt_of_a_megabyte_is_too_long_before_any_upstream_call(app: RunningApp) -> None:
    calls = app.box.calls
    response = post(app, {**OK, "prompt": "word " * 200_000})
    assert response.status_code == 400
    assert error_of(response)["code"] == "context_length_exceeded"
    assert app.box.calls == calls


def test_prompt_and_answer_must_fit_the_smaller_context(app: RunningApp) -> None:
    assert post(app, {**OK, "prompt": [1] * 500, "max_tokens": 12}).status_code == 200
    response = post(app, {**OK, "prompt": [1] * 500, "max_tokens": 13})
    assert error_of(response)["code"] == "context_length_exceeded"
    assert "512" in error_of(response)["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_a_413(app: RunningApp, chunked: bool) -> None:
    body = b"x" * 5_000_000
    response = httpx.post(f"{app.url}/v1/completions", content=iter([body]) if chunked else body)
    assert response.status_code == 413
    assert error_of(response)["code"] == "payload_too_large"


def test_unknown_models_and_routes_are_404(app: RunningApp, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="other", prompt="a")
    assert caught.value.code == "model_not_found"
    assert post(app, OK, "/v1/nothing").status_code == 404
    assert error_of(httpx.get(f"{app.url}/v1/completions"))["type"] == "invalid_request_error"
    assert httpx.get(f"{app.url}/v1/completions").status_code == 405


@pytest.mark.parametrize(
    ("fault", "expected", "status"),
    [
        (UpstreamUnreachable("The black box does not answer."), openai.InternalServerError, 502),
        (UpstreamBusy("The black box is busy."), openai.InternalServerError, 503),
        (UpstreamTimeout("The black box gave no token in time."), openai.InternalServerError, 504),
        (MalformedTopK("The black box's list is not sorted."), openai.InternalServerError, 502),
        (RuntimeError("a defect"), openai.InternalServerError, 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_before_the_first_token_has_its_own_status(
    tokenizer: Any, fault: Exception, expected: type[openai.APIStatusError], status: int, stream: bool
) -> None:
    with running_app(tokenizer, ScriptedBlackBox(fault=fault)) as app:
        with (
            openai.OpenAI(base_url=f"{app.url}/v1", api_key="k", max_retries=0) as client,
            pytest.raises(expected) as caught,
        ):
            client.completions.create(model="tiny", prompt="a", stream=stream)
        assert caught.value.status_code == status
        assert "defect" not in caught.value.message
        retryable = getattr(fault, "retryable", False)
        assert caught.value.response.headers["x-should-retry"] == str(retryable).lower()
        assert ("retry-after" in caught.value.response.headers) == retryable
        eventually(app.idle)


@pytest.mark.parametrize("fault", [MalformedTopK("The black box's list is not sorted."), RuntimeError("a defect")])
def test_a_later_fault_is_one_error_event_without_done(tokenizer: Any, fault: Exception) -> None:
    with running_app(tokenizer, ScriptedBlackBox(fault=fault, fault_after=3)) as app:
        text = post(app, {**OK, "temperature": 0, "max_tokens": 9, "stream": True}).text
        frames = [json.loads(frame.removeprefix("data: ")) for frame in text.split("\n\n") if frame]
        *chunks, last = frames
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "fgh"
        assert set(last) == {"error"}
        assert "[DONE]" not in text and "defect" not in text
        with openai.OpenAI(base_url=f"{app.url}/v1", api_key="k", max_retries=0) as client:
            stream = client.completions.create(model="tiny", prompt="a", temperature=0, max_tokens=9, stream=True)
            seen = []
            with pytest.raises(openai.APIError):
                seen.extend(chunk.choices[0].text for chunk in stream)
        eventually(app.idle)


def test_one_failing_choice_fails_the_request_and_stops_the_others(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.01)) as app:
        app.version.row_fault = OffsetUnavailable("The offset engine cannot answer.")
        response = post(app, {**OK, "n": 4, "max_tokens": 400})
        assert response.status_code == 503
        assert error_of(response)["code"] == "offset_unavailable"
        eventually(app.idle)


def test_answers_that_a_token_without_an_offset_ended_are_counted_and_not_retried(tokenizer: Any) -> None:
    with running_app(tokenizer) as app:
        app.version.row_fault = NoOffset("The pair has no offset for it.")
        response = post(app, OK)
        metrics = httpx.get(f"{app.url}/metrics").text
    assert (response.status_code, response.headers["x-should-retry"]) == (503, "false")
    assert error_of(response)["code"] == "offset_unavailable"
    assert "deltaserve_answers_without_offset_total 1.0" in metrics


def test_request_ids_are_kept_when_they_are_well_formed(app: RunningApp) -> None:
    assert httpx.get(f"{app.url}/version", headers={"x-request-id": "a.B-9_"}).headers["x-request-id"] == "a.B-9_"
    for bad in ("a b", "x" * 129, "é".encode()):
        made = httpx.get(f"{app.url}/version", headers={"x-request-id": bad}).headers["x-request-id"]
        assert made.startswith("req-")
    streamed = post(app, {**OK, "stream": True}, headers={"x-request-id": "mine"})
    assert streamed.headers["x-request-id"] == "mine"
    assert post(app, b"{", headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"


def test_no_text_reaches_the_log(app: RunningApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="deltaserve")
    post(app, {**OK, "prompt": "zanzibar", "temperature": 0})
    post(app, {**OK, "prompt": "zanzibar", "temperature": 9})
    httpx.get(f"{app.url}/v1/models/zanzibar")
    httpx.get(f"{app.url}/zanzibar")
    eventually(lambda: len(caplog.records) >= 4)
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert "zanzibar" not in str(lines)
    first = next(line for line in lines if line["route"] == "/v1/completions" and line["status"] == 200)
    assert first["fingerprint"] == "ds-flat-0123456789ab"
    assert (first["prompt_tokens"], first["completion_tokens"], first["upstream_calls"]) == (8, 4, 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {**CHAT, "tool_choice": "auto"}),
        ("chat/completions", {**CHAT, "tool_choice": "none"}),
        ("chat/completions", {**CHAT, "tool_choice": "auto", "tools": []}),
        ("chat/completions", {**CHAT, "function_call": "auto", "best_of": 1}),
        ("completions", {**OK, "n": 2, "best_of": 2}),
        ("completions", {**OK, "top_p": 0, "temperature": 2}),
    ],
)
def test_unsupported_fields_with_neutral_values_are_accepted(app: RunningApp, path: str, body: Any) -> None:
    assert post(app, body, f"/v1/{path}").status_code == 200


def test_top_p_of_0_is_the_most_probable_token(app: RunningApp) -> None:
    greedy, narrow = (post(app, {**OK, "max_tokens": 12, **how}).json()["choices"][0]["text"] for how in (
        {"temperature": 0}, {"temperature": 2, "top_p": 0, "seed": 5}
    ))  # fmt: skip
    assert greedy == narrow


@pytest.mark.parametrize("absent", [{"content": None}, {}])
def test_only_an_assistant_may_say_nothing(app: RunningApp, absent: Any) -> None:
    silent = {**CHAT, "messages": [*CHAT["messages"], {"role": "assistant", **absent}, *CHAT["messages"]]}
    empty = {**CHAT, "messages": [*CHAT["messages"], {"role": "assistant", "content": ""}, *CHAT["messages"]]}
    one, other = (post(app, {**body, "temperature": 0}, "/v1/chat/completions") for body in (silent, empty))
    assert one.status_code == other.status_code == 200
    assert one.json()["usage"] == other.json()["usage"]
    for role in ("user", "system", "tool"):
        refused = post(app, {**CHAT, "messages": [{"role": role, **absent}]}, "/v1/chat/completions")
        assert refused.status_code == 400
        assert "`messages[0].content` is required" in error_of(refused)["message"]


def test_a_model_that_is_not_there_is_answered_with_those_that_are(app: RunningApp) -> None:
    for response in (post(app, {**OK, "model": "gpt-4o"}), httpx.get(f"{app.url}/v1/models/gpt-4o")):
        error = error_of(response)
        assert (response.status_code, error["code"]) == (404, "model_not_found")
        assert error["message"] == "The model 'gpt-4o' does not exist; there is tiny."


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("/v1/embeddings", "the embedding model's own server"),
        ("/v1/audio/speech", "this server generates text only"),
        ("/v1/images/generations", "this server generates text only"),
        ("/v1/moderations", "judges no texts"),
        ("/v1/files", "keeps nothing"),
        ("/v1/batches", "answered at once"),
        ("/v1/responses/resp_1/cancel", "Nothing is kept of a response"),
        ("/v1/v1/messages", "take the base URL without /v1"),
        ("/chat/completions", "the base URL ends in /v1"),
        ("/v1/nothing", "There is no such route"),
    ],
)
def test_a_route_that_is_not_built_says_what_to_use(app: RunningApp, path: str, instead: str) -> None:
    response = httpx.post(f"{app.url}{path}", json={})
    assert response.status_code == 404 and instead in error_of(response)["message"]
