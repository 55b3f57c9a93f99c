"""What clients keep of earlier turns, as templates read it."""

from typing import Any

import pytest

from deltaserve.server.api.chat.messages import plain, with_objects
from deltaserve.server.api.requests.schema import Message


def call(arguments: Any) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": "look", "arguments": arguments}}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('{"at": "漢"}', {"at": "漢"}),
        ("{}", {}),
        ('{"at": ', '{"at": '),
        ("[1]", "[1]"),
        ({"at": 1}, {"at": 1}),
        (f'{{"at": {10**30}}}', {"at": 10**30}),
        ('{"at": NaN}', '{"at": NaN}'),
        ('{"at": ' * 5000, '{"at": ' * 5000),
        (None, None),
    ],
)
def test_a_calls_arguments_are_an_object_where_they_are_one(sent: Any, read: Any) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call(sent)]}]
    assert with_objects(messages) == [messages[0], {**messages[1], "tool_calls": [call(read)]}]


@pytest.mark.parametrize("calls", ["x", [1], [{"function": 3}], [{}]])
def test_calls_that_are_none_stay_as_they_are(calls: Any) -> None:
    assert with_objects([{"role": "assistant", "tool_calls": calls}]) == [{"role": "assistant", "tool_calls": calls}]


def test_earlier_reasoning_is_read_under_either_name() -> None:
    said = {"role": "assistant", "content": "yes"}
    assert plain(Message(**said, reasoning="so"), 0)["reasoning_content"] == "so"
    assert plain(Message(**said, reasoning="so", reasoning_content="then"), 0)["reasoning_content"] == "then"
    assert "reasoning_content" not in plain(Message(**said), 0)
