"""The SSE splitter: any chunking, any line ends, the same payloads."""

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.server.upstream.http.events import EventSplitter, EventTooLarge, LineSplitter

LIMIT = 1 << 16

_line = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data:  c",
        b"data",
        b": keep-alive",
        b"event: x",
        b"id: 7",
        b"",
        "data: {\u2028}".encode(),
        b"x",
    ]
)
_end = st.sampled_from([b"\n", b"\r\n", b"\r"])


def payloads(stream: bytes, cuts: list[int] | None = None, limit: int = LIMIT) -> list[bytes]:
    splitter = EventSplitter(limit)
    bounds = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts or [])})
    found: list[bytes] = []
    for start, stop in pairwise(bounds):
        found += splitter.feed(stream[start:stop])
    return found


def reference(stream: bytes) -> list[bytes]:
    """The standard's algorithm, line by line, written slowly."""
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    found: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                found.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    return found


@given(st.lists(st.tuples(_line, _end), max_size=30), st.lists(st.integers(min_value=0), max_size=12))
def test_any_chunking_gives_the_events_of_the_standard(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in lines)
    assert payloads(stream, cuts) == reference(stream)


@given(st.binary(max_size=60), st.lists(st.integers(min_value=0), max_size=8))
def test_any_bytes_split_the_same_whole_or_in_pieces(stream: bytes, cuts: list[int]) -> None:
    assert payloads(stream, cuts) == payloads(stream)
    assert payloads(stream, list(range(len(stream)))) == payloads(stream)


def test_a_line_separator_inside_json_does_not_end_the_event() -> None:
    text = "one\u2028two\u2029three\x85four"
    body = orjson.dumps({"text": text})
    assert [orjson.loads(payload)["text"] for payload in payloads(b"data: " + body + b"\n\n", [12, 13])] == [text]


def test_a_leading_byte_order_mark_is_ignored() -> None:
    assert payloads(b"\xef\xbb\xbfdata: a\n\ndata: b\n\n", [1, 2]) == [b"a", b"b"]


def test_an_event_without_its_blank_line_is_not_an_event() -> None:
    splitter = EventSplitter(LIMIT)
    assert splitter.feed(b"data: a\n\ndata: b\n") == [b"a"]
    assert splitter.rest == b"data: b\n"


@pytest.mark.parametrize("cuts", [[], [40], list(range(200))])
def test_an_event_past_the_limit_is_refused_whole_or_in_pieces(cuts: list[int]) -> None:
    with pytest.raises(EventTooLarge):
        payloads(b"data: " + b"x" * 100 + b"\n\n", cuts, limit=80)


def test_events_up_to_the_limit_pass() -> None:
    assert payloads(b"data: " + b"x" * 74 + b"\n\ndata: y\n\n", [79, 81, 82], limit=80) == [b"x" * 74, b"y"]


def lines(stream: bytes, cuts: list[int]) -> list[bytes]:
    splitter = LineSplitter(LIMIT)
    bounds = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [line for start, stop in pairwise(bounds) for line in splitter.feed(stream[start:stop])]


@given(
    st.lists(st.sampled_from([b'{"a":1}', '{"b":"\u2028"}'.encode(), b"", b"  "])),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(min_value=0)),
)
def test_lines_of_json_come_out_whole_however_they_are_cut(said: list[bytes], end: bytes, cuts: list[int]) -> None:
    stream = b"".join(line + end for line in said)
    assert lines(stream, cuts) == [line for line in said if line.strip()]


def test_an_unfinished_line_is_the_rest_and_no_payload() -> None:
    splitter = LineSplitter(LIMIT)
    assert splitter.feed(b'{"a":1}\n{"b"') == [b'{"a":1}']
    assert splitter.rest == b'{"b"'


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_larger_than_the_limit_is_an_error(end: bytes) -> None:
    with pytest.raises(EventTooLarge):
        LineSplitter(4).feed(b"12345" + end)
