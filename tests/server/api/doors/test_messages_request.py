"""What /v1/messages takes, as the chat request that asks for the same."""

from typing import Any

import pytest

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.doors.messages.request import chat_fields
from deltaserve.server.api.doors.messages.schema import MessagesRequest

USER = {"role": "user", "content": "Hi"}
TOOL = {"name": "f", "description": "F.", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": {"type": "object"}}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
CALLED = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": ""}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "7"}]}
SAID = {"role": "tool", "content": "7", "tool_call_id": "t1"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


def translated(**body: Any) -> dict[str, Any]:
    return chat_fields(MessagesRequest.model_validate({"max_tokens": 9, "messages": [USER], **body}))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([USER], [USER]),
        ([{"role": "user", "content": [text("H"), text("i")]}], [USER]),
        ([USER, {"role": "assistant", "content": [text("a"), text("b")]}, USER],
         [USER, {"role": "assistant", "content": "ab"}, USER]),
        ([{"role": "assistant", "content": [THOUGHT, text("a"), USE, USE]},
          {"role": "user", "content": [RESULT, RESULT, text("Hi")]}],
         [{"role": "assistant", "reasoning_content": "Hm.", "content": "a", "tool_calls": [CALLED, CALLED]},
          SAID, SAID, USER]),
        ([{"role": "user", "content": [text("Hi"), {**RESULT, "content": "7", "is_error": False}]}], [USER, SAID]),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, USER],
         [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, USER]),
    ],
)  # fmt: skip
def test_blocks_are_turns(turns: list[dict[str, Any]], expected: Any) -> None:
    assert translated(messages=turns)["messages"] == expected


def test_what_a_tool_was_used_with_stays_exact() -> None:
    turns = [{"role": "assistant", "content": [{**USE, "input": {"n": 10**40, "é": "漢"}}]}, USER]
    [call] = translated(messages=turns)["messages"][0]["tool_calls"]
    assert call["function"]["arguments"] == '{"n": 1' + "0" * 40 + ', "é": "漢"}'


@pytest.mark.parametrize("system", ["Be brief.", [text("Be "), text("brief.")]])
def test_the_system_prompt_is_the_first_message(system: Any) -> None:
    assert translated(system=system)["messages"] == [{"role": "system", "content": "Be brief."}, USER]


def test_an_assistants_last_turn_is_continued() -> None:
    assert translated(messages=[USER, {"role": "assistant", "content": "The"}])["continue_final_message"] is True


def test_a_last_turn_without_blocks_is_not_continued() -> None:
    fields = translated(messages=[USER, {"role": "assistant", "content": []}])
    assert fields["messages"] == [USER] and "continue_final_message" not in fields


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"temperature": 0, "top_k": 3, "seed": 1}, {"temperature": 0, "top_k": 3, "seed": 1}),
        ({"stop_sequences": ["x"]}, {"stop": ["x"]}),
        ({"metadata": {"user_id": "u"}, "service_tier": "auto"}, {"user": "u"}),
        ({"tools": [TOOL]}, {"tools": [FUNCTION]}),
        ({"tools": [{**TOOL, "type": "custom", "strict": True}]},
         {"tools": [{**FUNCTION, "function": {**FUNCTION["function"], "strict": True}}]}),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
         {"tool_choice": "auto", "parallel_tool_calls": False}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        ({"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
        ({"tool_choice": {"type": "tool", "name": "f"}},
         {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"chat_template_kwargs": {"enable_thinking": True}}),
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"thinking": {"type": "adaptive"}, "chat_template_kwargs": {"a": 1}}, {"chat_template_kwargs": {"a": 1}}),
        ({"thinking": {"type": "enabled"}, "chat_template_kwargs": {"a": 1}},
         {"chat_template_kwargs": {"enable_thinking": True, "a": 1}}),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
         {"response_format": {"type": "json_schema",
                              "json_schema": {"name": "output", "strict": True, "schema": {"type": "object"}}}}),
        ({"mcp_servers": [], "container": None}, {}),
    ],
)  # fmt: skip
def test_fields_are_the_chat_requests_own(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translated(**body) == {"messages": [USER], "max_tokens": 9, "stop": [], **expected}


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ({"container": "c"}, "container", "nothing is kept"),
        ({"n": 2}, "n", "one answer"),
        ({"stop": ["x"]}, "stop", "stop_sequences"),
        ({"top_logprobs": 2}, "top_logprobs", "no place"),
        ({"stop_sequence": ["x"]}, "stop_sequence", "did you mean `stop_sequences`"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools", "Anthropic's own"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages",
         "`messages[0].content[0]`: `image` is not supported"),
        ({"messages": [{"role": "user", "content": [{**RESULT, "content": [{"type": "image"}]}]}]}, "messages",
         "`messages[0].content[0].content[0]`: `image` is not supported"),
        ({"messages": [{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}, USER]},
         "messages", "cannot be read here"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}, USER]}, "messages",
         "`server_tool_use` are not supported"),
    ],
)  # fmt: skip
def test_what_is_not_built_is_refused_with_a_sentence(body: dict[str, Any], param: str, sentence: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        translated(**body)
    assert caught.value.param == param
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"messages": [USER, {"role": "assistant", "content": [USE]}]}, "must go on with its tool_result"),
        ({"messages": [{"role": "assistant", "content": [{**USE, "input": "{}"}]}, USER]},
         "`messages[0].content[0].input` must be an object"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id` must be a string"),
        ({"tools": [{"name": "f"}]}, "`tools[0].input_schema` must be"),
        ({"tool_choice": {"type": ["auto"]}}, "`tool_choice.type` must be"),
        ({"thinking": {"type": {}}}, "`thinking.type` must be"),
        ({"output_config": {"format": "json"}}, "`output_config.format` must be"),
    ],
)  # fmt: skip
def test_what_is_no_block_is_a_400_that_names_the_place(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translated(**body)
    assert sentence in caught.value.message
