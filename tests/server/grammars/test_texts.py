"""Expressions, choices, grammars and tags as llguidance's grammars."""

import json

import pytest

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.json_schema import Spacing
from deltaserve.server.grammars.texts import choice_grammar, regex_grammar, tag_grammar, text_grammar
from tests.support.grammars import takes


def test_an_expression_is_matched_whole() -> None:
    for pattern in ("a{2}b?", "^a{2}b?$"):
        assert takes(regex_grammar(pattern), "aab")
        assert not takes(regex_grammar(pattern), "xaab")


def test_a_choice_is_one_of_its_texts() -> None:
    texts = ["yes", "no", 'a "b" \\', "é😀\n", "yes, but"]
    grammar = choice_grammar(texts)
    assert all(takes(grammar, text) for text in texts)
    assert not takes(grammar, "ye")


@pytest.mark.parametrize("text", ['root ::= "a" | b\nb ::= [0-9]+', 'start: "a" | B\nB: /[0-9]+/'])
def test_a_grammar_is_lark_or_gbnf(text: str) -> None:
    assert takes(text_grammar(text), "17")
    assert not takes(text_grammar(text), "b")


@pytest.mark.parametrize("text", ["", "foo bar", 'root ::= "a" (', "root ::= other", "root ::= " + "(" * 3000])
def test_what_is_no_grammar_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        text_grammar(text)


MANY = [f"(.*[a-c]){{{n}}}.*" for n in range(2, 30)]  # of which each doubles the work


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("start: T\nT: " + " & ".join(f"/{pattern}/" for pattern in MANY), "`&`"),
        ("start: %json " + json.dumps({"allOf": [{"pattern": pattern} for pattern in MANY]}), "12 patterns"),
        ('start: %json {"x-guidance": {}, "not": {}}', "`not`"),
        ("start: %json " + "[" * 50_000, "deeply"),
    ],
)
def test_a_grammar_that_would_take_minutes_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        text_grammar(text)


def test_joined_terminals_and_schemas_are_taken_in_a_grammar() -> None:
    text = 'start: T %json {"type": "integer", "x-guidance": {"whitespace_flexible": false}}\nT: /[a-z&~]+/ & /.{2}/'
    assert takes(text_grammar(text), "a&3")


def test_a_tag_is_free_text_until_its_trigger() -> None:
    call = {
        "begin": "<call=add>",
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
        "end": "</call>",
    }
    grammar = tag_grammar([call], ["<call"], {}, Spacing(closed=True))
    assert takes(grammar, "no call")
    assert takes(grammar, 'first <call=add>{"n": 1}</call> then')
    assert not takes(grammar, 'first <call=add>{"n": "1"}</call>')
    assert not takes(grammar, "first <call=sub>")


def test_a_special_token_is_written_by_its_id() -> None:
    call = {"begin": "<|call|>{", "schema": True, "end": "}<|end|>"}
    grammar = tag_grammar([call], ["<|call|>"], {"<|call|>": 7, "<|end|>": 8}, Spacing())
    assert 'tag_0: TAG_TEXT <[7]> "{"' in grammar
    assert '"}" <[8]>' in grammar


def test_bounds_are_named() -> None:
    with pytest.raises(BadRequest, match="5,001 texts"):
        choice_grammar([str(i) for i in range(5001)])
    with pytest.raises(BadRequest, match="100,001 characters"):
        text_grammar("a" * 100_001)
    with pytest.raises(BadRequest, match="none of the triggers"):
        tag_grammar([{"begin": "<x>", "schema": {}, "end": ""}], ["<y"], {}, Spacing())
