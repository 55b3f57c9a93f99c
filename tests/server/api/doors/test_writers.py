"""Parts of an answer as each API's events, and as its whole answer."""

import json
import math
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from deltaserve.errors import BadRequest, MalformedTopK, Unavailable
from deltaserve.server.answers.parts import CallArguments, CallBegun, Content, Part, Reasoning
from deltaserve.server.api.doors.messages import writer as messages
from deltaserve.server.api.doors.messages.writer import MessageWriter
from deltaserve.server.api.doors.responses.schema import ResponsesRequest
from deltaserve.server.api.doors.responses.writer import ResponseWriter

USAGE = {"input_tokens": 3, "output_tokens": 4}
THINKS_SPEAKS_CALLS: list[Part] = [
    Reasoning("H"), Reasoning("m"), Content("a"), Content(""), CallBegun(0, "c0", "f"), CallArguments(0, '{"a"'),
    CallArguments(0, ":1}"), CallBegun(1, "c1", "g"), CallArguments(1, "{}"),
]  # fmt: skip
HALF_A_CALL: list[Part] = [CallBegun(0, "c0", "f"), CallArguments(0, '{"a"')]


def events(raw: bytes) -> list[tuple[str, Any]]:
    """(name, data) of each event; the name stands in both lines."""
    read = []
    for frame in raw.decode().split("\n\n")[:-1]:
        first, second = frame.split("\n")
        data = orjson.loads(second.removeprefix("data: "))
        assert first == f"event: {data['type']}"
        read.append((data.pop("type"), data))
    return read


def asked(**body: Any) -> ResponsesRequest:
    return ResponsesRequest.model_validate({"input": "Hi", **body})


def response(parts: Sequence[Part], *, cut: bool = False, step: int = 1, **body: Any) -> tuple[list[Any], Any]:
    """(events, document), the parts arriving `step` at a time."""
    writer = ResponseWriter(asked(**body))
    raw = writer.opening()
    raw += b"".join(writer.add(parts[at : at + step]) for at in range(0, len(parts), step))
    raw += writer.end(cut=cut)
    return events(raw + writer.closing(cut=cut, usage=USAGE)), orjson.loads(writer.document(cut=cut, usage=USAGE))


def message(parts: Sequence[Part], *, cut: bool = False, step: int = 1) -> tuple[list[Any], Any]:
    writer = MessageWriter("tiny", "ds-1", 3)
    raw = writer.opening()
    raw += b"".join(writer.add(parts[at : at + step]) for at in range(0, len(parts), step))
    stop = messages.stop_of("length" if cut else "stop", None)
    raw += writer.end(cut=cut) + writer.closing(stop, USAGE)
    return events(raw), orjson.loads(writer.document(stop, USAGE))


def test_a_responses_events_come_in_openais_order_and_are_numbered() -> None:
    stream, _ = response(THINKS_SPEAKS_CALLS, step=2)
    assert [data["sequence_number"] for _, data in stream] == list(range(len(stream)))
    assert [(name.removeprefix("response."), data.get("output_index")) for name, data in stream] == [
        ("created", None), ("in_progress", None),
        ("output_item.added", 0), ("content_part.added", 0), ("reasoning_text.delta", 0), ("reasoning_text.done", 0),
        ("content_part.done", 0), ("output_item.done", 0),
        ("output_item.added", 1), ("content_part.added", 1), ("output_text.delta", 1), ("output_text.done", 1),
        ("content_part.done", 1), ("output_item.done", 1),
        ("output_item.added", 2), ("function_call_arguments.delta", 2), ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2), ("output_item.done", 2),
        ("output_item.added", 3), ("function_call_arguments.delta", 3), ("function_call_arguments.done", 3),
        ("output_item.done", 3),
        ("completed", None),
    ]  # fmt: skip


def test_a_response_is_the_sum_of_its_deltas() -> None:
    stream, document = response(THINKS_SPEAKS_CALLS)
    pieces = ["".join(d["delta"] for _, d in stream if "delta" in d and d["output_index"] == at) for at in range(4)]
    assert pieces == ["Hm", "a", '{"a":1}', "{}"]
    assert [item["type"] for item in document["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert document["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert document["output"][1]["content"] == [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}]
    calls = [(item["call_id"], item["name"], item["arguments"]) for item in document["output"][2:]]
    assert calls == [("c0", "f", '{"a":1}'), ("c1", "g", "{}")]
    assert stream[-1][1]["response"]["output"] == document["output"]
    assert [data["item"] for name, data in stream if name.endswith("item.done")] == document["output"]


def test_the_batches_in_which_parts_arrive_change_nothing_but_the_deltas() -> None:
    one, whole = (response(THINKS_SPEAKS_CALLS, step=step)[1]["output"] for step in (1, 99))
    assert [{**item, "id": None} for item in one] == [{**item, "id": None} for item in whole]
    assert message(THINKS_SPEAKS_CALLS)[1]["content"] == message(THINKS_SPEAKS_CALLS, step=99)[1]["content"]


@pytest.mark.parametrize("parts", [HALF_A_CALL, [Content("ab")], [Reasoning("ab")]])
def test_a_response_at_its_limit_is_incomplete(parts: list[Part]) -> None:
    stream, document = response(parts, cut=True)
    assert stream[-1][0] == "response.incomplete"
    assert (document["status"], document["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert [item["status"] for item in document["output"]] == ["incomplete"]
    assert "response.function_call_arguments.done" not in dict(stream)


def test_half_a_call_is_never_completed_even_where_the_answer_ended_by_itself() -> None:
    stream, document = response(HALF_A_CALL)
    assert document["output"][0]["status"] == "incomplete"
    assert document["output"][0]["arguments"] == '{"a"'
    assert "response.function_call_arguments.done" not in dict(stream)
    assert message(HALF_A_CALL)[1]["content"] == []


def test_a_response_repeats_what_was_asked() -> None:
    fields: dict[str, Any] = {
        "instructions": "Be.", "max_output_tokens": 5, "metadata": {"a": "b"}, "tool_choice": "none",
        "tools": [{"type": "function", "name": "f"}], "text": {"format": {"type": "json_object"}},
    }  # fmt: skip
    _, document = response([Content("a")], **fields)
    assert {name: document[name] for name in fields} == fields
    assert (document["store"], document["object"], document["error"]) == (False, "response", None)


def test_numbers_that_json_has_are_repeated_as_they_are_and_others_refused() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {"maximum": 10**40}}]
    assert b'"maximum": 1' + b"0" * 40 in ResponseWriter(asked(tools=tools)).opening()
    tools[0]["parameters"] = {"maximum": math.inf}
    with pytest.raises(BadRequest, match="`tools` holds a number that is not finite"):
        ResponseWriter(asked(tools=tools))


def test_a_calls_numbers_stay_exact_in_a_message() -> None:
    writer = MessageWriter("tiny", "ds-1", 3)
    writer.add([CallBegun(0, "c0", "f"), CallArguments(0, '{"n": 1' + "0" * 40 + "}")]), writer.end(cut=False)
    assert json.loads(writer.document({}, USAGE))["content"][0]["input"] == {"n": 10**40}


def test_log_probabilities_go_with_the_text_that_their_tokens_led_to() -> None:
    writer = ResponseWriter(asked())
    raw = writer.add([], [b'{"token":"a"}']) + writer.add([Content("ab")], [b'{"token":"b"}']) + writer.end(cut=False)
    told = dict(events(raw))
    expected = [{"token": "a"}, {"token": "b"}]
    assert told["response.output_text.delta"]["logprobs"] == expected
    assert told["response.output_text.done"]["logprobs"] == expected
    assert orjson.loads(writer.document(cut=False, usage=USAGE))["output"][0]["content"][0]["logprobs"] == expected


def test_a_response_that_fails_says_so_twice_as_openais_clients_read_either() -> None:
    writer = ResponseWriter(asked())
    writer.opening(), writer.add([Content("a")])
    (name, told), (last, data) = events(writer.failed(MalformedTopK("The list is not sorted.")))
    assert (name, told["code"], told["message"]) == ("error", "upstream_malformed_top_k", "The list is not sorted.")
    assert (last, data["response"]["status"]) == ("response.failed", "failed")
    assert data["response"]["error"] == {"code": "server_error", "message": "The list is not sorted."}


def test_a_messages_events_come_in_anthropics_order() -> None:
    stream, document = message(THINKS_SPEAKS_CALLS, step=2)
    assert [(name, data.get("index")) for name, data in stream] == [
        ("message_start", None),
        ("content_block_start", 0), ("content_block_delta", 0), ("content_block_stop", 0),
        ("content_block_start", 1), ("content_block_delta", 1), ("content_block_stop", 1),
        ("content_block_start", 2), ("content_block_delta", 2), ("content_block_delta", 2), ("content_block_stop", 2),
        ("content_block_start", 3), ("content_block_delta", 3), ("content_block_stop", 3),
        ("message_delta", None), ("message_stop", None),
    ]  # fmt: skip
    assert document["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c1", "name": "g", "input": {}},
    ]
    deltas = [data["delta"] for name, data in stream if name == "content_block_delta"]
    assert deltas[0] == {"type": "thinking_delta", "thinking": "Hm"}
    assert deltas[1] == {"type": "text_delta", "text": "a"}
    assert "".join(delta["partial_json"] for delta in deltas[2:4]) == '{"a":1}'


@pytest.mark.parametrize(
    ("finish", "stop", "expected"),
    [
        ("stop", None, ("end_turn", None)),
        ("stop", 7, ("end_turn", None)),
        ("stop", "END", ("stop_sequence", "END")),
        ("length", None, ("max_tokens", None)),
        ("tool_calls", None, ("tool_use", None)),
    ],
)
def test_why_a_message_ended(finish: str, stop: Any, expected: tuple[str, Any]) -> None:
    assert tuple(messages.stop_of(finish, stop).values()) == expected


def test_a_message_that_fails_ends_with_anthropics_error_event() -> None:
    [(name, data)] = events(messages.failed(Unavailable("The server is shutting down."), "req-1"))
    assert name == "error"
    assert data["error"] == {"type": "overloaded_error", "message": "The server is shutting down."}
    assert data["request_id"] == "req-1"


def test_log_probabilities_that_come_with_reasoning_and_text_are_the_texts() -> None:
    writer = ResponseWriter(asked())
    writer.add([Reasoning("H")], [b"1"])
    writer.add([Reasoning("m"), Content("a")], [b"2", b"3"])
    writer.end(cut=False)
    thought, said = orjson.loads(writer.document(cut=False, usage=USAGE))["output"]
    assert said["content"][0]["logprobs"] == [2, 3] and "logprobs" not in thought["content"][0]
