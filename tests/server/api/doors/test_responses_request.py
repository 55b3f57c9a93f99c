"""What /v1/responses takes, as the chat request that asks for the same."""

from typing import Any

import pytest

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.doors.responses.request import chat_fields
from deltaserve.server.api.doors.responses.schema import ResponsesRequest


def translated(**body: Any) -> dict[str, Any]:
    return chat_fields(ResponsesRequest.model_validate({"input": "Hi", **body}))


def messages(items: list[dict[str, Any]], **body: Any) -> Any:
    return translated(input=items, **body)["messages"]


USER = {"role": "user", "content": "Hi"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
CALLED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
SAID = {
    "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
}  # fmt: skip
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
TOOL = {"type": "function", "name": "f", "description": "F.", "parameters": {"type": "object"}, "strict": True}
FUNCTION = {"type": "function", "function": {name: value for name, value in TOOL.items() if name != "type"}}


def test_a_text_is_what_the_user_says() -> None:
    assert translated() == {"messages": [USER]}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([USER], [USER]),
        ([{"type": "message", **USER}], [USER]),
        ([{"role": "user", "content": [{"type": "input_text", "text": "H"}, {"type": "text", "text": "i"}]}], [USER]),
        ([{"role": "developer", "content": "Be."}, USER], [{"role": "system", "content": "Be."}, USER]),
        ([SAID], [{"role": "assistant", "content": "Hello"}]),
        ([SAID, SAID], [{"role": "assistant", "content": "Hello"}] * 2),
        ([CALL, CALL], [{"role": "assistant", "tool_calls": [CALLED, CALLED]}]),
        (
            [THOUGHT, SAID, CALL],
            [{"role": "assistant", "reasoning_content": "Hm.", "content": "Hello", "tool_calls": [CALLED]}],
        ),
        (
            [CALL, THOUGHT],
            [{"role": "assistant", "tool_calls": [CALLED]}, {"role": "assistant", "reasoning_content": "Hm."}],
        ),
        (
            [USER, CALL, {"type": "function_call_output", "call_id": "c1", "output": "7"}, USER],
            [
                USER,
                {"role": "assistant", "tool_calls": [CALLED]},
                {"role": "tool", "content": "7", "tool_call_id": "c1"},
                USER,
            ],
        ),
        (
            [{"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "7"}]}],
            [{"role": "tool", "content": "7", "tool_call_id": "c1"}],
        ),
        ([{"type": "reasoning", "id": "r", "summary": [], "encrypted_content": None}, USER], [USER]),
        (
            [{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "So."}]}],
            [{"role": "assistant", "reasoning_content": "So."}],
        ),
    ],
)  # fmt: skip
def test_items_are_turns(items: list[dict[str, Any]], expected: Any) -> None:
    assert messages(items) == expected


def test_instructions_and_what_a_developer_says_first_are_one_message() -> None:
    rules = {"role": "developer", "content": "Be kind."}
    assert messages([rules, USER, rules], instructions="Be brief.") == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        USER,
        {"role": "system", "content": "Be kind."},
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_output_tokens": 5}, {"max_completion_tokens": 5}),
        ({"temperature": 0.5, "seed": 3, "stop": ["x"]}, {"temperature": 0.5, "seed": 3, "stop": ["x"]}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True, "top_logprobs": 0}),
        ({"top_logprobs": 4}, {"logprobs": True, "top_logprobs": 4}),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"text": {"format": {"type": "text"}, "verbosity": "medium"}}, {"response_format": {"type": "text"}}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
        ),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [FUNCTION], "tool_choice": "required"}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": False},
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "parallel_tool_calls": False,
            },
        ),
        (
            {
                "tools": [TOOL, {**TOOL, "name": "g"}],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            },
            {"tools": [FUNCTION], "tool_choice": "auto"},
        ),
        (
            {
                "tools": [{**TOOL, "name": {}}],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": []}]},
            },
            {"tools": [], "tool_choice": "auto"},
        ),
        ({"store": False, "background": False, "truncation": "disabled", "n": 1, "metadata": {"a": "b"}}, {}),
        ({"prompt_cache_key": "k", "service_tier": "auto", "stream_options": {"include_obfuscation": False}}, {}),
        ({"previous_response_id": None, "conversation": None, "tools": None}, {}),
    ],
)  # fmt: skip
def test_fields_are_the_chat_requests_own(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translated(**body) == {"messages": [USER], **expected}


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "Send the whole conversation"),
        ({"conversation": "conv_1"}, "conversation", "no answers are kept"),
        ({"store": True}, "store", "must be false"),
        ({"background": True}, "background", "as long as its request"),
        ({"prompt": {"id": "p"}}, "prompt", "`prompt`"),
        ({"truncation": "auto"}, "truncation", "shorten"),
        ({"n": 2}, "n", "one answer"),
        ({"max_tokens": 3}, "max_tokens", "max_output_tokens"),
        ({"response_format": {"type": "text"}}, "response_format", "text.format"),
        ({"max_output_token": 3}, "max_output_token", "did you mean `max_output_tokens`"),
        ({"tools": [{"type": "web_search"}]}, "tools", "`web_search` would have to be run"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice", "`mcp` is not supported"),
        ({"input": [{"type": "item_reference", "id": "m"}]}, "input", "Send the items themselves"),
        ({"input": [{"type": "web_search_call", "id": "m"}]}, "input", "`web_search_call` are not supported"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]}, "input",
         "`input[0].content[0]`: `input_image` is not supported, only text"),
        ({"input": [{"type": "reasoning", "encrypted_content": "x"}]}, "input", "cannot be read"),
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
        ({"input": [{"role": "robot", "content": "x"}]}, "`input[0].role` must be"),
        ({"input": [{"role": "user"}]}, "`input[0].content` must be a string or a list"),
        ({"input": [{"content": "x"}]}, "`input[0]` must be an item"),
        ({"input": [{"type": ["message"]}]}, "`input[0]` must be an item"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "`input[0].content[0]` must be an object"),
        ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, "`input[0].content[0].text` must be"),
        ({"input": [{**CALL, "arguments": {}}]}, "`input[0].arguments` must be a string"),
        ({"text": {"format": "json"}}, "`text.format` must be an object"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "`tool_choice.tools` must be"),
    ],
)  # fmt: skip
def test_what_is_no_item_is_a_400_that_names_the_place(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translated(**body)
    assert sentence in caught.value.message
