"""Reasoning and tool calls through /v1/responses and /v1/messages, judged by openai-python and anthropic-python."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.support.app import RunningApp
from tests.support.speaking import marked_tokenizer, speaking_app

if TYPE_CHECKING:
    from anthropic import Anthropic

ARGUMENTS = {"at": "漢", "n": 2}
CALL = f'<tool_call>\n{{"name": "look", "arguments": {json.dumps(ARGUMENTS, ensure_ascii=False)}}}\n</tool_call>'
SCRIPTS = {
    "think": "<think>\nLet me see. é\n</think>\n\nIt is 4.",
    "twice": f"<think>\nI look.\n</think>\n\nI look.{CALL}\n{CALL}",
    "half": CALL[:-30],
    "answer": "It is 4.",
}
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}, "n": {"type": "integer"}}}
PICKED = {"type": "object", "properties": {"of": {"enum": [1, 2]}}, "required": ["of"], "additionalProperties": False}
FUNCTION: Any = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": None}
PICK: Any = {"type": "function", "name": "pick", "parameters": PICKED, "strict": True}
TOOL: Any = {"name": "look", "input_schema": SCHEMA}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with speaking_app(marked_tokenizer(tmp_path_factory.mktemp("doors")), SCRIPTS) as running:
        yield running


def asks(question: str, **fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "input": question, "temperature": 0, **fields}


def says(question: str, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}]
    return {"model": "tiny", "messages": turns, "max_tokens": 400, "extra_body": {"temperature": 0}, **fields}


def plain(items: Any) -> list[dict[str, Any]]:
    """Items or blocks without the ids that are new each time."""
    names = ("type", "status", "text", "content", "name", "arguments", "thinking", "input")
    told = [item.model_dump(include=set(names), exclude_none=True) for item in items]
    return [{name: item[name] for name in names if name in item} for item in told]


def test_a_response_has_its_reasoning_before_its_text(client: openai.OpenAI) -> None:
    response = client.responses.create(**asks("think"))
    thought, said = response.output
    assert thought.type == "reasoning" and thought.content is not None
    assert "".join(part.text for part in thought.content).strip() == "Let me see. é"
    assert (said.type, response.output_text) == ("message", "It is 4.")
    assert response.usage is not None
    assert 0 < response.usage.output_tokens_details.reasoning_tokens < response.usage.output_tokens
    events = list(client.responses.create(**asks("think"), stream=True))
    assert plain(events[-1].response.output) == plain(response.output)
    deltas = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(deltas) == thought.content[0].text


def test_effort_none_is_no_reasoning(client: openai.OpenAI) -> None:
    effort: Any = {"effort": "none"}
    response = client.responses.create(**asks("answer", reasoning=effort))
    assert [item.type for item in response.output] == ["message"]
    counted = client.responses.input_tokens.count(model="tiny", input="answer", reasoning=effort)
    assert response.usage is not None and counted.input_tokens == response.usage.input_tokens


def test_a_response_calls_tools_and_is_told_what_they_gave(client: openai.OpenAI) -> None:
    response = client.responses.create(**asks("twice", tools=[FUNCTION]))
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments), call.status) for call in calls] == [
        ("look", ARGUMENTS, "completed")
    ] * 2
    with client.responses.stream(**asks("twice", tools=[FUNCTION])) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.function_call_arguments.delta"]
        assert plain(stream.get_final_response().output) == plain(response.output)
    assert json.loads(snapshots[-1]) == ARGUMENTS
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "4"} for call in calls]
    told: Any = [
        {"role": "user", "content": "twice"},
        *response.output,
        *results,
        {"role": "user", "content": "answer"},
    ]
    assert client.responses.create(**asks("", tools=[FUNCTION]) | {"input": told}).output_text == "It is 4."


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "pick"}])
def test_a_response_may_have_to_call(client: openai.OpenAI, choice: Any) -> None:
    [call] = client.responses.create(
        **asks("answer", tools=[PICK], tool_choice=choice, parallel_tool_calls=False, reasoning={"effort": "none"})
    ).output
    assert call.type == "function_call" and call.name == "pick"
    assert json.loads(call.arguments)["of"] in (1, 2)


def test_half_a_call_is_no_call(client: openai.OpenAI, claude: "Anthropic") -> None:
    events = list(client.responses.create(**asks("half", tools=[FUNCTION], max_output_tokens=45), stream=True))
    assert events[-1].type == "response.incomplete"
    assert "response.function_call_arguments.done" not in [event.type for event in events]
    assert [item.status for item in events[-1].response.output] == ["incomplete"]
    message = claude.messages.create(**says("half", tools=[TOOL], max_tokens=45))
    assert (message.content, message.stop_reason) == ([], "max_tokens")


def test_a_message_thinks_where_it_may(claude: "Anthropic") -> None:
    message = claude.messages.create(**says("think", thinking={"type": "enabled", "budget_tokens": 1024}))
    thought, said = message.content
    assert thought.type == "thinking" and thought.thinking.strip() == "Let me see. é"
    assert said.type == "text" and said.text == "It is 4."
    details = message.usage.output_tokens_details
    assert details is not None and 0 < details.thinking_tokens < message.usage.output_tokens
    with claude.messages.stream(**says("think")) as stream:
        assert plain(stream.get_final_message().content) == plain(message.content)
    silent = claude.messages.create(**says("answer", thinking={"type": "disabled"}))
    assert [block.type for block in silent.content] == ["text"]


def test_a_message_uses_tools_and_is_told_what_they_gave(claude: "Anthropic") -> None:
    message = claude.messages.create(**says("twice", tools=[TOOL]))
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.stop_reason == "tool_use"
    uses = [block for block in message.content if block.type == "tool_use"]
    assert [(use.name, use.input) for use in uses] == [("look", ARGUMENTS)] * 2
    with claude.messages.stream(**says("twice", tools=[TOOL])) as stream:
        final = stream.get_final_message()
    assert (plain(final.content), final.stop_reason) == (plain(message.content), "tool_use")
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "4"} for use in uses]
    turns: Any = [
        {"role": "user", "content": "twice"},
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [*results, {"type": "text", "text": "answer"}]},
    ]
    [said] = claude.messages.create(**says("", tools=[TOOL]) | {"messages": turns}).content
    assert said.type == "text" and said.text == "It is 4."


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "pick"}]
)
def test_a_message_may_have_to_use_a_tool(claude: "Anthropic", choice: Any) -> None:
    pick: Any = {"name": "pick", "input_schema": PICKED}
    message = claude.messages.create(**says("answer", tools=[pick], tool_choice=choice, thinking={"type": "disabled"}))
    use = message.content[0]
    assert use.type == "tool_use" and use.name == "pick" and use.input["of"] in (1, 2)
    assert message.stop_reason == "tool_use"


def test_tools_are_counted_with_the_prompt(claude: "Anthropic") -> None:
    asked = says("think", tools=[TOOL])
    counted = claude.messages.count_tokens(model="tiny", messages=asked["messages"], tools=[TOOL])
    assert counted.input_tokens == claude.messages.create(**{**asked, "max_tokens": 1}).usage.input_tokens
