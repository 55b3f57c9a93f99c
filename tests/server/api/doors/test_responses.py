"""/v1/responses as openai-python sees it, over real HTTP."""

from typing import Any, Literal

import httpx2 as httpx
import openai
import pydantic
import pytest

from deltaserve.errors import MalformedTopK
from tests.support.app import RunningApp, ScriptedBlackBox, eventually, running_app

GREEDY: dict[str, Any] = {"model": "tiny", "input": "Hi", "temperature": 0, "max_output_tokens": 7}


def post(app: RunningApp, body: dict[str, Any], path: str = "", **headers: str) -> httpx.Response:
    return httpx.post(f"{app.url}/v1/responses{path}", json=body, headers=headers, timeout=10)


def chat(app: RunningApp, **body: Any) -> Any:
    """What /v1/chat/completions says to the same."""
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, **body}
    return httpx.post(f"{app.url}/v1/chat/completions", json=asked, timeout=10).json()


def test_a_response_says_what_chat_says(app: RunningApp, client: openai.OpenAI) -> None:
    response, same = client.responses.create(**GREEDY), chat(app, max_tokens=7)
    assert response.output_text == same["choices"][0]["message"]["content"]
    assert (response.status, response.error, response.model) == ("incomplete", None, "tiny")
    assert response.incomplete_details is not None and response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    counts = (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens)
    assert counts == tuple(same["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    told = response.model_dump()
    assert told["system_fingerprint"] == same["system_fingerprint"]
    assert told["usage"]["deltaserve"]["upstream_calls"] == 1
    assert (told["store"], told["temperature"], told["top_p"]) == (False, 0.0, 1.0)


def test_a_streamed_response_is_the_whole_one(client: openai.OpenAI) -> None:
    whole = client.responses.create(**GREEDY)
    events = list(client.responses.create(**GREEDY, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == whole.output_text
    assert last.response.usage == whole.usage


def test_openais_own_helper_follows_the_stream(tokenizer: Any) -> None:
    with (
        running_app(tokenizer, ScriptedBlackBox(ends_at=60)) as app,
        openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0) as client,
        client.responses.stream(model="tiny", input="Hi", temperature=0) as stream,
    ):
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.status == "completed"
    assert snapshots[-1] == final.output_text != ""
    assert [item.status for item in final.output if item.type == "message"] == ["completed"]


def test_log_probabilities_are_chats_own(app: RunningApp, client: openai.OpenAI) -> None:
    [message] = client.responses.create(**GREEDY, top_logprobs=2).output
    assert message.type == "message" and message.content[0].type == "output_text"
    told = [entry.model_dump() for entry in message.content[0].logprobs or ()]
    assert told == chat(app, max_tokens=7, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    deltas = client.responses.create(**GREEDY, include=["message.output_text.logprobs"], stream=True)
    entries = [entry for event in deltas if event.type == "response.output_text.delta" for entry in event.logprobs]
    assert [entry.token for entry in entries] == [entry["token"] for entry in told]


def test_sampling_passes_through(app: RunningApp, client: openai.OpenAI) -> None:
    seeded = {"temperature": 1.5, "seed": 5, "stop": ["h"], "max_tokens": 40}
    same = chat(app, **seeded)["choices"][0]
    body = {"temperature": 1.5, "extra_body": {"seed": 5, "stop": ["h"]}, "max_output_tokens": 40}
    response = client.responses.create(model="tiny", input="Hi", **body)
    assert response.output_text == same["message"]["content"]


class Town(pydantic.BaseModel):
    name: Literal["abcdef", "xyz"]
    large: bool


def test_openais_helper_parses_what_a_schema_holds(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {**GREEDY, "max_output_tokens": 60, "extra_body": {"bad_words": [*" \t\r\n"]}}
    response = client.responses.parse(**asked, text_format=Town)
    assert isinstance(response.output_parsed, Town)
    assert response.status == "completed"
    with client.responses.stream(**asked, text_format=Town) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Town)


def test_the_prompts_tokens_are_counted(client: openai.OpenAI) -> None:
    said: dict[str, Any] = {"model": "tiny", "input": "Hi", "instructions": "Be brief."}
    counted = client.responses.input_tokens.count(**said)
    usage = client.responses.create(**said, max_output_tokens=1).usage
    assert usage is not None and counted.input_tokens == usage.input_tokens


@pytest.mark.parametrize(
    ("body", "status", "param", "sentence"),
    [
        ({"previous_response_id": "resp_1"}, 400, "previous_response_id", "Send the whole conversation"),
        ({"input": 7}, 400, "input", "`input` must be a string or a list of at most 4,096 items"),
        ({"input": "word " * 600}, 400, "input", "The context holds 512 tokens"),
        ({"max_output_tokens": 511}, 400, "max_output_tokens", "were asked for"),
        ({"max_output_tokens": 0}, 400, "max_output_tokens", "1 or more"),
        ({"temperature": 3}, 400, "temperature", "from 0 (greedy) to 2"),
        ({"top_logprobs": 21}, 400, "top_logprobs", "from 0 to 20"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "what"}}}}, 400, "text",
         "`text.format.schema`: `type` at #/type"),
        ({"include": ["everything"]}, 400, "include", "a list of names such as"),
        ({"model": "other"}, 404, "model", "does not exist"),
        ({"explain": True}, 403, "explain", "no admin key"),
        ({"text": {"verbosity": "low"}}, 400, "text", "`text.verbosity` is not supported"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_token_have_their_status_and_name_the_clients_field(
    app: RunningApp, body: dict[str, Any], status: int, param: str, sentence: str, stream: bool
) -> None:
    calls = app.box.calls
    response = post(app, {**GREEDY, **body, "stream": stream})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert sentence in error["message"]
    assert app.box.calls == calls


def test_a_later_fault_ends_the_stream_with_its_own_events(tokenizer: Any) -> None:
    fault = MalformedTopK("The black box's list is not sorted.")
    with (
        running_app(tokenizer, ScriptedBlackBox(fault=fault, fault_after=3)) as app,
        openai.OpenAI(base_url=f"{app.url}/v1", api_key="k", max_retries=0) as client,
    ):
        events = list(client.responses.create(**GREEDY, stream=True))
        eventually(app.idle)
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2].message == fault.message
    assert events[-1].response.status == "failed"
    assert events[-1].sequence_number == len(events) - 1


def test_explain_shows_every_token_to_the_admin_key_alone(tokenizer: Any) -> None:
    with running_app(tokenizer, admin_key="secret-admin-key") as app:
        assert post(app, {**GREEDY, "explain": True}).status_code == 401
        told = post(app, {**GREEDY, "explain": True}, **{"x-admin-key": "secret-admin-key"}).json()
        assert len(told["explain"]) == 7
        assert told["explain"][0]["candidates"]
        assert "explain" not in post(app, GREEDY).json()


def test_nothing_is_kept_of_a_response(client: openai.OpenAI) -> None:
    made = client.responses.create(**GREEDY)
    with pytest.raises(openai.NotFoundError, match="Nothing is kept of a response"):
        client.responses.retrieve(made.id)
