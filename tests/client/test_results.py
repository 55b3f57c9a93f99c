"""Reasoning and tool calls as the clients of this package read them."""

import pytest

from deltaserve.client.commands.chat import _summary
from deltaserve.client.results import Answer, Piece, ToolCall

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_an_answer_has_its_reasoning_and_its_calls(name: str) -> None:
    message = {"role": "assistant", "content": None, name: "so", "tool_calls": [CALL, CALL]}
    answer = Answer.read({"model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}]})
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("", "so", "tool_calls")
    assert answer.tool_calls == (ToolCall(0, "look", '{"at": 1}'), ToolCall(1, "look", '{"at": 1}'))


def test_a_piece_has_what_came_of_them() -> None:
    more = {"tool_calls": [{"index": 1, "function": {"arguments": '{"at'}}]}
    assert Piece.read({"choices": [{"delta": more}]}) == Piece("", None, "", (ToolCall(1, "", '{"at'),))
    thought = {"reasoning_content": "so", "reasoning": "so"}
    assert Piece.read({"choices": [{"delta": thought}]}) == Piece("", None, "so")
    assert Piece.read({"choices": [{"text": "x", "finish_reason": "stop"}]}) == Piece("x", "stop")


def test_the_chat_command_tells_reasoning_apart() -> None:
    assert _summary([Piece("", None, "so "), Piece("", None, "so"), Piece("yes", None), Piece("", "stop")]) == {
        "text": "yes",
        "finish_reason": "stop",
        "reasoning": "so so",
    }
    assert _summary([Piece("yes", "length")]) == {"text": "yes", "finish_reason": "length"}
