"""Pieces as parts: what is counted, and how an answer ends."""

from typing import Any

import pytest

from deltaserve.server.answers.choice_reader import ChoiceReader, merged
from deltaserve.server.answers.parts import CallArguments, CallBegun, Content, Part, Reasoning, Segment
from deltaserve.server.decoding.stream import Piece, Step

BEGUN = CallBegun(0, "call_1", "look")


class Scripted:
    """A parser that gives what the table says for a segment."""

    def __init__(self, **parts: list[Part]) -> None:
        self._parts = parts
        self.called = False

    def push(self, segment: Segment) -> list[Part]:
        assert isinstance(segment, str)
        parts = self._parts.get(segment, [])
        self.called = self.called or BEGUN in parts
        return parts

    def finish(self) -> list[Part]:
        return self._parts.get("finish", [])


def piece(*segments: str, tokens: int = 1, **more: Any) -> Piece:
    return Piece("".join(segments), (Step(1, 1, None, 0.0),) * tokens, segments=segments, **more)


def test_without_a_parser_text_is_content() -> None:
    reader = ChoiceReader()
    assert reader.read(Piece("ab", ())) == [Content("ab")]
    assert reader.read(Piece("", (), "length")) == []
    assert (reader.finish_reason, reader.reasoning_tokens) == ("length", 0)


@pytest.mark.parametrize(
    ("reason", "stop_reason", "called", "expected"),
    [
        ("stop", None, True, "tool_calls"),
        ("stop", None, False, "stop"),
        ("stop", "END", True, "stop"),
        ("length", None, True, "length"),
        (None, None, True, None),
    ],
)
def test_an_answer_that_called_and_ended_by_itself_ends_with_its_calls(
    reason: Any, stop_reason: Any, called: bool, expected: str | None
) -> None:
    reader = ChoiceReader(Scripted(a=[BEGUN] if called else []))
    reader.read(piece("a", finish_reason=reason, stop_reason=stop_reason))
    assert (reader.finish_reason, reader.stop_reason) == (expected, stop_reason)


def test_what_was_held_back_comes_with_the_last_piece() -> None:
    reader = ChoiceReader(Scripted(a=[Content("a")], finish=[Content("!")]))
    assert reader.read(piece("a")) == [Content("a")]
    assert reader.read(piece("a", finish_reason="stop")) == [Content("a!")]


def test_tokens_without_a_part_of_their_own_count_to_the_part_behind_them() -> None:
    parser = Scripted(so=[Reasoning("so")], yes=[Content("yes")])
    reader = ChoiceReader(parser)
    counts = []
    for segment in ("<think>", "so", "so", "</think>", "yes"):
        reader.read(piece(segment))
        counts.append(reader.reasoning_tokens)
    assert counts == [0, 2, 3, 3, 3]


def test_the_last_tokens_count_to_the_last_part() -> None:
    reader = ChoiceReader(Scripted(so=[Reasoning("so")]))
    reader.read(piece("so", tokens=3))
    reader.read(piece("\n", tokens=2, finish_reason="length"))
    assert reader.reasoning_tokens == 5


def test_neighbours_of_one_kind_are_one_part() -> None:
    parts = [
        Content("a"),
        Content(""),
        Content("b"),
        Reasoning("c"),
        BEGUN,
        CallArguments(0, "{"),
        CallArguments(0, "}"),
    ]
    assert merged(parts) == [Content("ab"), Reasoning("c"), BEGUN, CallArguments(0, "{}")]
    assert merged([CallArguments(0, "a"), CallArguments(1, "b")]) == [CallArguments(0, "a"), CallArguments(1, "b")]
