"""An answer's text, cut at the tokens that a parser wants to see: whatever is held back, nothing is lost or moved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.server.decoding.output.segments import Segment, Segmenter, Special
from deltaserve.server.decoding.output.text import ByteDetokenizer, StopStrings

HIDDEN, SHOWN = 300, 301  # a special token, and an added one that is text
NAMES = {HIDDEN: "<call>", SHOWN: "<think>"}
TEXTS = {HIDDEN: b"", SHOWN: b"<think>"}


def bytes_of(token_id: int) -> bytes:
    return TEXTS.get(token_id, bytes([token_id & 255]))


def ids_of(text: str) -> list[int]:
    """`*` and `+` stand for the two tokens."""
    marks = {ord("*"): HIDDEN, ord("+"): SHOWN}
    return [marks.get(byte, byte) for byte in text.encode()]


def said(text: str, *stops: str) -> list[tuple[Segment, ...]]:
    """As a stream does it, token by token."""
    detokenizer, held, segmenter = ByteDetokenizer(bytes_of), StopStrings(stops), Segmenter(NAMES)
    steps, ids = [], ids_of(text)
    for number, token_id in enumerate(ids, 1):
        decoded = detokenizer.step(token_id)
        segmenter.decoded(token_id, decoded)
        last = number == len(ids)
        shown = held.push(decoded + (detokenizer.flush() if last else ""))
        ended = last or held.matched is not None
        steps.append(segmenter.cut(shown if held.matched or not last else shown + held.flush(), last=ended))
        if ended:
            break
    return steps


def joined(steps: list[tuple[Segment, ...]]) -> list[Segment]:
    """Neighbouring texts are one."""
    whole: list[Segment] = []
    for segment in (segment for step in steps for segment in step):
        if isinstance(segment, str) and whole and isinstance(whole[-1], str):
            whole[-1] += segment
        else:
            whole.append(segment)
    return whole


CALL, THINK = Special(HIDDEN, "<call>"), Special(SHOWN, "<think>")


@pytest.mark.parametrize(
    ("text", "stops", "segments"),
    [
        ("ab*cd", (), ["ab", CALL, "cd"]),
        ("+a*", (), [THINK, "a", CALL]),
        ("**++", (), [CALL, CALL, THINK, THINK]),
        ("aé*é", (), ["aé", CALL, "é"]),
        ("ab*cd", ("bcd",), ["a"]),  # as text has it, a stop string goes on over a token without text
        ("ab*cd", ("bcx",), ["ab", CALL, "cd"]),  # what was held back for it comes in order
        ("ab*cd", ("cd",), ["ab", CALL]),
        ("ab*cd", ("b",), ["a"]),
        ("a+b", ("<think>",), ["a"]),
        ("a+b", ("k>b",), ["a<thin"]),  # a token that is cut is text
        ("a+b", ("<think>x",), ["a", THINK, "b"]),
    ],
)
def test_tokens_stand_where_they_came(text: str, stops: tuple[str, ...], segments: list[Segment]) -> None:
    assert joined(said(text, *stops)) == segments


def test_what_a_stop_string_may_begin_with_is_held_back_with_its_tokens() -> None:
    steps = said("a+b", "<think>x")
    assert steps[0] == ("a",) and steps[1] == ()
    assert steps[2] == (THINK, "b")


def test_inside_a_character_a_token_comes_before_it() -> None:
    detokenizer, segmenter = ByteDetokenizer(bytes_of), Segmenter(NAMES)
    first, second = "é".encode()
    steps = []
    for token_id in (first, HIDDEN, second):
        text = detokenizer.step(token_id)
        segmenter.decoded(token_id, text)
        steps.append(segmenter.cut(text, last=token_id == second))
    assert steps == [(), (CALL,), ("é",)]


@given(text=st.text("ab<thin*+é", max_size=12), stops=st.lists(st.text("ab<thin", min_size=1, max_size=3), max_size=2))
def test_the_text_of_all_segments_is_the_text_of_the_answer(text: str, stops: list[str]) -> None:
    if not text:
        return
    plain, held = ByteDetokenizer(bytes_of), StopStrings(stops)
    whole = "".join(held.push(plain.step(token_id)) for token_id in ids_of(text))
    whole += "" if held.matched else held.flush()
    spelled = "".join(
        segment if isinstance(segment, str) else TEXTS[segment.token_id].decode()
        for segment in joined(said(text, *stops))
    )
    assert spelled == whole
