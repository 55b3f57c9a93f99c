"""/v1/messages as anthropic-python sees it, over real HTTP."""

from typing import TYPE_CHECKING, Any, Literal

import httpx2 as httpx
import pydantic
import pytest

from deltaserve.errors import MalformedTopK
from tests.support.app import RunningApp, ScriptedBlackBox, eventually, running_app

if TYPE_CHECKING:
    from anthropic import Anthropic

USER: Any = {"role": "user", "content": "Hi"}
GREEDY: dict[str, Any] = {
    "model": "tiny", "messages": [USER], "max_tokens": 7, "extra_body": {"temperature": 0},
}  # fmt: skip
RAW = {"model": "tiny", "messages": [USER], "max_tokens": 7, "temperature": 0}


def post(app: RunningApp, body: dict[str, Any], path: str = "", **headers: str) -> httpx.Response:
    return httpx.post(f"{app.url}/v1/messages{path}", json=body, headers=headers, timeout=10)


def chat(app: RunningApp, **body: Any) -> Any:
    """What /v1/chat/completions says to the same."""
    asked = {"model": "tiny", "messages": [USER], "temperature": 0, **body}
    return httpx.post(f"{app.url}/v1/chat/completions", json=asked, timeout=10).json()


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_says_what_chat_says(app: RunningApp, claude: "Anthropic") -> None:
    message, same = claude.messages.create(**GREEDY), chat(app, max_tokens=7)
    assert text_of(message) == same["choices"][0]["message"]["content"]
    assert (message.role, message.model, message.stop_reason) == ("assistant", "tiny", "max_tokens")
    assert message.usage.input_tokens == same["usage"]["prompt_tokens"]
    assert message.usage.output_tokens == same["usage"]["completion_tokens"]
    assert message._request_id
    assert message.model_dump()["system_fingerprint"] == same["system_fingerprint"]
    assert message.usage.model_dump()["deltaserve"]["upstream_calls"] == 1


def test_a_streamed_message_is_the_whole_one(claude: "Anthropic") -> None:
    whole = claude.messages.create(**GREEDY)
    with claude.messages.stream(**GREEDY) as stream:
        words = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert words == text_of(final) == text_of(whole)
    assert (final.stop_reason, final.stop_sequence) == (whole.stop_reason, whole.stop_sequence)
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens == whole.usage.input_tokens


def test_a_stop_sequence_is_named(claude: "Anthropic") -> None:
    whole = text_of(claude.messages.create(**GREEDY))
    message = claude.messages.create(**GREEDY, stop_sequences=[whole[3]])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", whole[3])
    assert text_of(message) == whole[:3]


def test_an_answer_that_ends_by_itself_ends_its_turn(tokenizer: Any) -> None:
    import anthropic

    with (
        running_app(tokenizer, ScriptedBlackBox(ends_at=60)) as app,
        anthropic.Anthropic(base_url=app.url, api_key="none", max_retries=0) as claude,
    ):
        assert claude.messages.create(**{**GREEDY, "max_tokens": 90}).stop_reason == "end_turn"


def test_an_assistants_last_turn_goes_on(app: RunningApp, claude: "Anthropic") -> None:
    begun: Any = {"role": "assistant", "content": "The town is"}
    message = claude.messages.create(**{**GREEDY, "messages": [USER, begun]})
    assert (
        text_of(message)
        == chat(app, max_tokens=7, messages=[USER, begun], continue_final_message=True)["choices"][0]["message"][
            "content"
        ]
    )


class Town(pydantic.BaseModel):
    name: Literal["abcdef", "xyz"]
    large: bool


def test_anthropics_helper_parses_what_a_schema_holds(claude: "Anthropic") -> None:
    asked: dict[str, Any] = {**GREEDY, "max_tokens": 60}
    asked["extra_body"] = {"temperature": 0, "bad_words": [*" \t\r\n"]}
    message = claude.messages.parse(**asked, output_format=Town)
    assert isinstance(message.parsed_output, Town)
    assert message.stop_reason == "end_turn"
    with claude.messages.stream(**asked, output_format=Town) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Town)


def test_the_prompts_tokens_are_counted_even_past_the_context(claude: "Anthropic") -> None:
    said: dict[str, Any] = {"model": "tiny", "messages": [USER], "system": "Be brief."}
    counted = claude.messages.count_tokens(**said)
    assert counted.input_tokens == claude.messages.create(**said, max_tokens=1).usage.input_tokens
    long: Any = {"role": "user", "content": "word " * 600}
    assert claude.messages.count_tokens(model="tiny", messages=[long]).input_tokens > 3000


@pytest.mark.parametrize(
    ("body", "status", "kind", "sentence"),
    [
        ({"max_tokens": None}, 400, "invalid_request_error", "`max_tokens` is required."),
        ({"max_tokens": 511}, 400, "invalid_request_error", "The context holds 512 tokens"),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400, "invalid_request_error", "`image`"),
        ({"temperature": 3}, 400, "invalid_request_error", "from 0 (greedy) to 2"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "what"}}}}, 400,
         "invalid_request_error", "`output_config.format.schema`: `type` at #/type"),
        ({"model": "other"}, 404, "not_found_error", "does not exist"),
        ({"explain": True}, 403, "permission_error", "no admin key"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_token_have_their_status_and_anthropics_shape(
    app: RunningApp, body: dict[str, Any], status: int, kind: str, sentence: str, stream: bool
) -> None:
    response = post(app, {**RAW, **body, "stream": stream})
    told = response.json()
    assert (response.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert sentence in told["error"]["message"]
    assert told["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("POST", "/batches", 404, "send the requests themselves"),
        ("GET", "", 405, "does not take GET"),
    ],
)
def test_what_is_below_the_route_is_refused_in_its_shape(
    app: RunningApp, method: str, path: str, status: int, sentence: str
) -> None:
    response = httpx.request(method, f"{app.url}/v1/messages{path}")
    assert (response.status_code, response.json()["type"]) == (status, "error")
    assert sentence in response.json()["error"]["message"]


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
def test_clients_of_any_version_of_the_api_get_the_same(app: RunningApp, version: str) -> None:
    told = post(app, RAW, **{"anthropic-version": version}).json()
    assert {**told, "id": None} == {**post(app, RAW).json(), "id": None}


def test_a_later_fault_ends_the_stream_with_anthropics_error_event(tokenizer: Any) -> None:
    import anthropic

    fault = MalformedTopK("The black box's list is not sorted.")
    with (
        running_app(tokenizer, ScriptedBlackBox(fault=fault, fault_after=3)) as app,
        anthropic.Anthropic(base_url=app.url, api_key="none", max_retries=0) as claude,
    ):
        with pytest.raises(anthropic.APIStatusError, match="not sorted"), claude.messages.stream(**GREEDY) as stream:
            stream.get_final_message()
        eventually(app.idle)


def test_the_key_comes_in_either_header(tokenizer: Any) -> None:
    import anthropic

    with running_app(tokenizer, api_keys="first", admin_key="secret-admin-key") as app:
        for how in ({"api_key": "first"}, {"auth_token": "first", "api_key": None}):
            with anthropic.Anthropic(base_url=app.url, max_retries=0, **how) as claude:
                assert claude.messages.create(**GREEDY).role == "assistant"
        stranger = anthropic.Anthropic(base_url=app.url, max_retries=0, api_key="second")
        with stranger, pytest.raises(anthropic.AuthenticationError, match="not known here"):
            stranger.messages.create(**GREEDY)
        assert httpx.get(f"{app.url}/admin/offsets", headers={"x-api-key": "secret-admin-key"}).status_code == 401
        keys = {"x-api-key": "first", "x-admin-key": "secret-admin-key"}
        told = post(app, {**RAW, "explain": True}, **keys).json()
        assert len(told["explain"]) == 7
