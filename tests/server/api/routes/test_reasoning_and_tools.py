"""Reasoning and tool calls in /v1/chat/completions, judged by openai-python."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest

from tests.support.app import RunningApp
from tests.support.speaking import OPENS, marked_tokenizer, speaking_app

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "漢", "n": 2}}\n</tool_call>'
SCRIPTS = {
    "think": "<think>\nLet me see. é\n</think>\n\nIt is 4.",
    "plain": "It is 4.",
    "endless": "<think>\nSo it goes on and on and on and on",
    "call": CALL,
    "twice": f"<think>\nI look.\n</think>\n\nI look.{CALL}\n{CALL}",
    "half": f"{CALL}\n{CALL[:50]}",
}
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}
PICK = {
    "type": "function",
    "function": {
        "name": "pick",
        "parameters": {
            "type": "object", "properties": {"of": {"enum": [1, 2]}}, "required": ["of"], "additionalProperties": False,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with speaking_app(marked_tokenizer(tmp_path_factory.mktemp("thinks")), SCRIPTS) as running:
        yield running


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def asked(client: openai.OpenAI, question: str, **fields: Any) -> Any:
    request = {"model": "tiny", "messages": [{"role": "user", "content": question}], "temperature": 0, **fields}
    return client.chat.completions.create(**request)


def summed(chunks: list[Any]) -> dict[int, dict[str, Any]]:
    """What the deltas of each choice add up to, in the form of a message."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk.choices:
            whole = choices.setdefault(part.index, {"content": None, "reasoning_content": None, "calls": [], "ids": []})
            delta = part.delta.model_dump(exclude_unset=True)
            for name in ("content", "reasoning_content"):
                if delta.get(name) is not None:
                    whole[name] = (whole[name] or "") + delta[name]
            for call in delta.get("tool_calls") or ():
                if call["index"] == len(whole["calls"]):
                    assert call["id"] and call["type"] == "function" and call["function"]["arguments"] == ""
                    whole["calls"].append([call["function"]["name"], ""])
                else:
                    assert call["index"] == len(whole["calls"]) - 1 and call.keys() == {"index", "function"}
                    whole["calls"][-1][1] += call["function"]["arguments"]
            whole["ids"] += (part.model_extra or {}).get("token_ids") or []
            whole["finish_reason"] = part.finish_reason
    return choices


def whole(choice: Any) -> dict[str, Any]:
    message = choice.message
    return {
        "content": message.content,
        "reasoning_content": getattr(message, "reasoning_content", None),
        "calls": [[call.function.name, call.function.arguments] for call in message.tool_calls or ()],
        "ids": (choice.model_extra or {}).get("token_ids") or [],
        "finish_reason": choice.finish_reason,
    }


def test_reasoning_stands_beside_the_content(client: openai.OpenAI) -> None:
    answer = asked(client, "think")
    message = answer.choices[0].message
    assert message.content == "It is 4."
    assert message.reasoning_content == message.reasoning == "Let me see. é"
    assert answer.choices[0].finish_reason == "stop"
    details = answer.usage.completion_tokens_details
    assert details.reasoning_tokens == len("<\nLet me see. é".encode())  # the mark is one token


def test_an_answer_without_reasoning_has_none(client: openai.OpenAI) -> None:
    answer = asked(client, "plain")
    assert answer.choices[0].message.content == "It is 4."
    assert not hasattr(answer.choices[0].message, "reasoning_content")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_an_answer_that_ends_while_it_thinks_is_reasoning_alone(client: openai.OpenAI) -> None:
    answer = asked(client, "endless", max_tokens=20)
    message = answer.choices[0].message
    assert (message.content, message.reasoning_content) == (None, "So it goes on and")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens_details.reasoning_tokens == 20


@pytest.mark.parametrize(
    "fields",
    [{"reasoning_effort": "none"}, {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}],
    ids=["reasoning_effort", "chat_template_kwargs"],
)
def test_thinking_can_be_turned_off(client: openai.OpenAI, app: RunningApp, fields: dict[str, Any]) -> None:
    script = {"off": "<think>\n\n</think>\n\nIt is <b>4</b>."}
    app.box.scripts = {**SCRIPTS, **script}
    answer = asked(client, "off", **fields)
    assert answer.choices[0].message.content == "It is <b>4</b>."
    assert not hasattr(answer.choices[0].message, "reasoning_content")
    assert answer.usage.completion_tokens_details is None


def test_a_call_has_its_name_and_arguments(client: openai.OpenAI) -> None:
    answer = asked(client, "call", tools=[TOOL])
    choice = answer.choices[0]
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "look")
    assert json.loads(call.function.arguments) == {"at": "漢", "n": 2}
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"


def test_without_tools_a_call_is_no_call(client: openai.OpenAI) -> None:
    for fields in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        choice = asked(client, "call", **fields).choices[0]
        assert choice.message.tool_calls is None and choice.finish_reason == "stop"
        assert '"look"' in choice.message.content


@pytest.mark.parametrize("question", ["think", "endless", "twice", "half"])
@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 1, "seed": 5, "n": 2}], ids=["greedy", "seeded"])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, question: str, how: dict[str, Any]) -> None:
    fields = {"tools": [TOOL], "max_tokens": 100, "extra_body": {"return_token_ids": True}, **how}
    answer = asked(client, question, **fields)
    chunks = list(asked(client, question, stream=True, stream_options={"include_usage": True}, **fields))
    assert summed(chunks) == {choice.index: whole(choice) for choice in answer.choices}
    assert chunks[-1].usage == answer.usage


NAMED = {"type": "function", "function": {"name": "pick"}}


@pytest.mark.parametrize(
    ("question", "choice", "tools", "name"),
    [
        ("think", "required", [PICK], "pick"),
        ("call", "required", [TOOL, PICK], "look"),
        ("think", NAMED, [TOOL, PICK], "pick"),
        ("call", NAMED, [TOOL, PICK], "pick"),
    ],
)
def test_a_call_that_is_required_is_made(
    client: openai.OpenAI, question: str, choice: Any, tools: list[Any], name: str
) -> None:
    answer = asked(client, question, tools=tools, tool_choice=choice, parallel_tool_calls=False).choices[0]
    (call,) = answer.message.tool_calls
    assert answer.message.content is None and answer.finish_reason == "tool_calls"
    assert hasattr(answer.message, "reasoning_content") == (question == "think")
    assert call.function.name == name
    if name == "pick":
        assert json.loads(call.function.arguments)["of"] in (1, 2)


def test_only_allowed_tools_may_be_called(client: openai.OpenAI) -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "pick"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    message = asked(client, "call", tools=[TOOL, PICK], tool_choice=choice).choices[0].message
    assert {call.function.name for call in message.tool_calls} == {"pick"}


FORM = {"type": "json_schema", "json_schema": {"name": "picked", "schema": PICK["function"]["parameters"]}}


@pytest.mark.parametrize(("question", "thought"), [("plain", None), ("think", "Let me see. é"), ("call", None)])
def test_a_form_is_kept_behind_the_reasoning(client: openai.OpenAI, question: str, thought: str | None) -> None:
    answer = asked(client, question, response_format=FORM).choices[0]
    assert json.loads(answer.message.content)["of"] in (1, 2)
    assert getattr(answer.message, "reasoning_content", None) == thought
    assert answer.finish_reason == "stop"


def test_an_answer_may_have_a_form_or_call(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"tools": [TOOL, PICK], "response_format": FORM}
    formed = asked(client, "plain", **fields).choices[0]
    assert json.loads(formed.message.content)["of"] in (1, 2) and formed.finish_reason == "stop"
    called = asked(client, "call", **fields).choices[0]
    assert called.message.content is None and called.finish_reason == "tool_calls"
    assert called.message.tool_calls[0].function.name == "look"


def test_a_half_written_call_is_not_completed(app: RunningApp, client: openai.OpenAI) -> None:
    most = len(app.version.tokenizer.encode(SCRIPTS["half"])) - 2
    choice = asked(client, "half", tools=[TOOL], max_tokens=most).choices[0]
    assert choice.finish_reason == "length"
    first, *_ = choice.message.tool_calls
    assert json.loads(first.function.arguments) == {"at": "漢", "n": 2}
    for call in choice.message.tool_calls[1:]:
        assert '{"at": "漢", "n": 2}'.startswith(call.function.arguments) and call.function.arguments[-1:] != "}"


def test_parallel_calls_come_one_after_another(client: openai.OpenAI) -> None:
    message = asked(client, "twice", tools=[TOOL]).choices[0].message
    assert message.reasoning_content == "I look." and message.content.strip() == "I look."
    assert [json.loads(call.function.arguments)["n"] for call in message.tool_calls] == [2, 2]
    assert len({call.id for call in message.tool_calls}) == 2


def test_logprobs_are_of_every_token(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"tools": [TOOL], "logprobs": True, "extra_body": {"return_token_ids": True}}
    answer = asked(client, "twice", **fields)
    chunks = list(asked(client, "twice", stream=True, **fields))
    entries = answer.choices[0].logprobs.content
    assert len(entries) == len(whole(answer.choices[0])["ids"])
    assert [e for c in chunks for p in c.choices if p.logprobs for e in p.logprobs.content] == entries


def test_every_chunk_has_the_fields_that_were_asked_for(client: openai.OpenAI) -> None:
    chunks = list(asked(client, "twice", tools=[TOOL], stream=True, extra_body={"return_token_ids": True}))
    assert all("token_ids" in (choice.model_extra or {}) for chunk in chunks[1:] for choice in chunk.choices)


def test_the_streaming_helper_puts_calls_together(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "twice"}]
    tool: Any = {**TOOL, "function": {**TOOL["function"], "strict": True}}
    with client.chat.completions.stream(model="tiny", messages=messages, temperature=0, tools=[tool]) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None and [call.function.parsed_arguments for call in calls] == [{"at": "漢", "n": 2}] * 2


def test_a_conversation_goes_on_behind_a_tools_answer(client: openai.OpenAI) -> None:
    first = asked(client, "call", tools=[TOOL]).choices[0].message
    messages = [
        {"role": "user", "content": "call"},
        first.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "4"},
        {"role": "user", "content": "plain"},
    ]
    answer = client.chat.completions.create(model="tiny", messages=messages, tools=[TOOL], temperature=0)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == "It is 4."


def test_special_tokens_are_shown_where_they_are_wanted(client: openai.OpenAI) -> None:
    hidden = asked(client, "call").choices[0].message.content
    shown = asked(client, "call", extra_body={"skip_special_tokens": False}).choices[0].message.content
    assert "<tool_call>" not in hidden
    assert shown == CALL


def test_a_prompt_that_opens_the_reasoning(tmp_path: Path) -> None:
    scripts = {"hi": "<think>\nSo.\n</think>\n\nHello."}
    with (
        speaking_app(marked_tokenizer(tmp_path, OPENS), scripts) as app,
        openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0) as client,
    ):
        message = asked(client, "hi").choices[0].message
        assert (message.reasoning_content, message.content) == ("So.", "Hello.")
        formed = asked(client, "hi", response_format=FORM).choices[0].message
        assert formed.reasoning_content == "So." and json.loads(formed.content)["of"] in (1, 2)
        with pytest.raises(openai.BadRequestError, match="no way to turn thinking off"):
            asked(client, "hi", reasoning_effort="none")


def test_tools_whose_calls_nobody_reads_are_refused(tmp_path: Path) -> None:
    template = OPENS.replace("<tool_call>", "CALL").replace("</tool_call>", "ENDCALL")
    with speaking_app(marked_tokenizer(tmp_path, template), {"hi": "x"}) as app:
        body = {"messages": [{"role": "user", "content": "hi"}], "tools": [TOOL], "max_tokens": 2}
        answer = httpx.post(f"{app.url}/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
        assert "`tool_format`" in answer.json()["error"]["message"]
        assert httpx.post(f"{app.url}/v1/chat/completions", json={**body, "tool_choice": "none"}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools"),
        ({"functions": [{"name": "look"}]}, "functions"),
        ({"function_call": {"name": "look"}}, "function_call"),
        ({"reasoning_effort": "great"}, "reasoning_effort"),
        ({"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}, "reasoning_effort"),
    ],
)
def test_what_cannot_be_done_is_refused(app: RunningApp, fields: dict[str, Any], param: str) -> None:
    answer = httpx.post(
        f"{app.url}/v1/chat/completions", json={"messages": [{"role": "user", "content": "plain"}], **fields}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_stop_string_that_is_a_mark_is_shown_once(client: openai.OpenAI) -> None:
    shown: Any = {"include_stop_str_in_output": True}
    for stop in ("<tool_call>", "</think>"):
        choice = asked(client, "twice", tools=[TOOL], stop=[stop], extra_body=shown).choices[0]
        assert (choice.finish_reason, choice.model_extra["stop_reason"]) == ("stop", stop)
        said = {"<tool_call>": "I look.<tool_call>", "</think>": None}[stop]
        assert (choice.message.content, choice.message.reasoning_content) == (said, "I look.")
