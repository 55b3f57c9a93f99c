"""JSON of an upstream: a name that comes twice in one object is refused however it is written; depth is bounded."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.errors import MalformedTopK
from deltaserve.server.upstream.http.strict_json import parsed

TWICE = [
    b'{"a":1,"a":2}',
    b'{"a" :1,"a":2}',  # the space hides one name from whoever counts quotes before colons
    b'{"a"\n:1,"a"\t:2}',
    b'{"a":1,"a":"\\u0022:"}',  # written again it is a quote before a colon, in the place of the name that was lost
    b'{"a":1,"a":"\\u003a"}',
    b'{"a":1,"\\u0061":2}',
    b'{"a":1,"a":1e9}',
    b'{"aaaaaaa":0,"aaaaaaa":1e9}',  # written again it is as long as before
    b'{"x":[{"a":1, "b":2, "a":3}]}',
]


class Pairs(list[tuple[str, Any]]):
    """An object whose names may repeat."""


NAMES = st.sampled_from(["a", "b", ":", '":', " ", "\\", "é"])
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(-5, 5), st.sampled_from([0.5, 1e9, -1e-7]), NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=3).map(Pairs),
    max_leaves=8,
)
SPACES = st.sampled_from(["", "", " ", "\n", " \t"])


def spelled(draw: st.DrawFn, value: Any) -> str:
    """JSON text with any spaces and escapes."""
    if isinstance(value, Pairs):
        items = [f"{spelled(draw, name)}{draw(SPACES)}:{draw(SPACES)}{spelled(draw, one)}" for name, one in value]
        return "{" + draw(SPACES) + ",".join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(spelled(draw, one) for one in value) + draw(SPACES) + "]"
    if isinstance(value, str) and draw(st.booleans()):
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in value) + '"'
    return json.dumps(value, ensure_ascii=False)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    return spelled(draw, draw(VALUES)).encode()


def repeats(payload: bytes) -> bool:
    """By the parser that looks at every pair."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        found = found or len(dict(pairs)) != len(pairs)
        return dict(pairs)

    json.loads(payload, object_pairs_hook=look)
    return found


@pytest.mark.parametrize("payload", TWICE)
def test_a_name_that_comes_twice_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedTopK):
        parsed(payload)


@given(texts())
def test_whatever_the_spaces_and_escapes_exactly_repeated_names_are_refused(payload: bytes) -> None:
    if repeats(payload):
        with pytest.raises(MalformedTopK):
            parsed(payload)
    else:
        assert parsed(payload) == orjson.loads(payload)


@pytest.mark.parametrize("depth", [200, 300, 1000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_of_any_depth_is_read_or_a_value_error(opening: bytes, closing: bytes, depth: int) -> None:
    payload = opening * depth + b"1 " + closing * depth
    try:
        assert parsed(payload) == orjson.loads(payload)
    except ValueError:
        assert depth > 200
