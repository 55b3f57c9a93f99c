"""A body is counted before it is parsed, and refused with a sentence that says what is too much."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.errors import BadRequest
from deltaserve.server.api.requests import json_text
from deltaserve.server.api.requests.json_text import MAX_DEPTH, MAX_FIELDS, parse

VALUES = 2048
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet='"\\[]{},:é', max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


def refusal(raw: bytes, max_values: int = VALUES) -> str:
    with pytest.raises(BadRequest) as caught:
        parse(raw, max_values)
    return caught.value.message


@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_what_is_not_too_much_is_parsed_as_python_parses_it(value: Any, ascii_only: bool, indent: int | None) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(), VALUES) == value


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"[" + b"1," * VALUES + b"1,1]", "at most 2,048"),
        (b"[" + b'"a",' * 300 + b"1]", "strings and field names; at most 256"),
        (b"{%b}" % b",".join(b'"%d":1' % n for n in range(300)), "strings and field names; at most 256"),
        (b"[" + b"[1]," * 300 + b"1]", "lists and objects; at most 256"),
        (b"[" + b"{}," * 300 + b"1]", "lists and objects; at most 256"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "more than 64 levels deep"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "more than 64 levels deep"),
        (b"[" * 100_000, "lists and objects"),
        (b"[1" + b"0" * 5000 + b"]", "more than 400 characters"),
        (b"[0." + b"1" * 5000 + b"]", "more than 400 characters"),
        (b"{%b}" % b",".join(b'"%d":1' % n for n in range(MAX_FIELDS + 1)), "129 fields; at most 128"),
    ],
)
def test_too_much_is_refused_before_it_is_parsed(raw: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "129 fields" not in says:
        monkeypatch.setattr(json_text.json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    assert says in refusal(raw)


def test_structure_inside_strings_counts_for_nothing() -> None:
    text = '[],{}:"\\' * 5000
    assert parse(json.dumps({"prompt": text}).encode(), VALUES) == {"prompt": text}


def test_as_deep_as_is_accepted_is_parsed() -> None:
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, VALUES)


@pytest.mark.parametrize(
    "raw", [b"{", b"[1", b"]", b'{"a"', b'"', b"nope", b"[1}", b"{" * 100, b"\\", b'"\\"', b"[1 2]", b" "]
)
def test_what_is_no_json_says_so(raw: bytes) -> None:
    assert "not valid JSON" in refusal(raw)


def test_thousands_of_open_brackets_are_refused_where_they_are_few_enough_to_be_parsed() -> None:
    assert "levels deep" in refusal(b"[" * 30_000, 262_144)


@pytest.mark.parametrize("raw", [b"\xff", b'"\xed\xa0\x80"', '{"a": 1}'.encode("utf-16"), b"\x1f\x8b\x08\x00"])
def test_what_is_no_utf_8_says_so(raw: bytes) -> None:
    assert "not UTF-8" in refusal(raw)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse(b"\xef\xbb\xbf[1]", VALUES) == [1]


@pytest.mark.parametrize(
    "spelled", ['"\\ud83d"', '"\\uDC00"', '"\\ude00\\ud83d"', '"\\ud83d\\\\ude00"', '{"\\ud83d": 1}']
)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands(spelled: str) -> None:
    assert "surrogate" in refusal(f'{{"x": [{spelled}]}}'.encode())


def test_a_whole_pair_is_a_character_and_an_escaped_backslash_is_none() -> None:
    assert parse(b'["\\ud83d\\ude00", "\\\\ud83d"]', VALUES) == ["\U0001f600", "\\ud83d"]


def test_a_field_that_is_named_twice_is_refused_by_name() -> None:
    assert "`seed` twice" in refusal(b'{"seed": 1, "prompt": "a", "seed": 2}')
    assert "`7` twice" in refusal(b'{"logit_bias": {"7": 1, "7": -1}}')
