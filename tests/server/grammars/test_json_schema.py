"""A schema's grammar takes answers that are valid, and no others; what cannot be kept is refused with its place."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.json_schema import Spacing, any_object, json_grammar
from tests.support.grammars import takes

CAT = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"const": "dog"}, "name": {"type": "string"}}, "required": ["kind"]}
CLOSED = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}

ONLY = {"type": "object", "additionalProperties": False}

KEPT: list[tuple[Any, list[str], list[str]]] = [
    (CLOSED, ["{}", '{"a":1}', '{"a": 1}', '{\n  "a": 1\n}'], ['{"a":"1"}', '{"b":1}', '{"a":  1}', " {}", "[]"]),
    ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, ["4"], ["3", "4.5"]),
    ({"items": [{"type": "integer"}], "additionalItems": False, "type": "array"}, ["[1]", "[]"], ["[1,2]", '["a"]']),
    ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, ["0", "-9000000000000000000"], ["9" * 19]),
    ({"type": "number", "maximum": 1e30}, ["1.5"], ["1" + "0" * 30]),
    ({"type": "string", "format": "date"}, ['"2024-02-29"', '"2000-02-29"'], ['"2023-02-29"', '"1900-02-29"', '"x"']),
    ({"type": "string", "format": "time"}, ['"12:00:59Z"', '"23:59:60Z"'], ['"12:00:60Z"', '"24:00:00Z"']),
    ({"type": "string", "format": "int64"}, ['"anything"'], ["3"]),
    ({"type": "string", "pattern": r"^\s$"}, ['" "', '"\ufeff"'], ['"\x85"', '"a"']),
    ({"type": "string", "pattern": r"^[a&&b]$"}, ['"a"', '"&"'], ['"c"']),
    ({"type": "string", "pattern": "^.$"}, ['"a"'], ['"\u2028"']),
    ({"oneOf": [{"type": "string"}, {"type": "null"}]}, ['"a"', "null"], ["1"]),
    ({"oneOf": [{"const": 1}, {"const": 2}]}, ["1", "2"], ["3"]),
    ({"oneOf": [{"type": "integer", "maximum": 1}, {"type": "integer", "minimum": 2}]}, ["1", "2"], ['"a"']),
    (
        {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "$defs": {"cat": CAT, "dog": DOG}},
        ['{"kind":"cat","lives":9}', '{"kind":"dog","name":"Rex"}'],
        ['{"kind":"cow"}', '{"kind":"cat","lives":"nine"}'],
    ),
    (
        {"$ref": "#tree", "$defs": {"t": {"$anchor": "tree", "type": "array", "items": {"$ref": "#tree"}}}},
        ["[[],[]]"],
        ["1"],
    ),
    ({"$id": "urn:a", "$ref": "urn:a#/x/y~1z", "x": {"y/z": {"type": "null"}}}, ["null"], ["1"]),
    (
        {"type": "object", "propertyNames": {"enum": ["a", "b.c"]}, "additionalProperties": {"type": "integer"}},
        ["{}", '{"a":1}', '{"b.c":2}'],
        ['{"d":1}', '{"bxc":1}', '{"a":"1"}'],
    ),
    (
        {"patternProperties": {"^(a|b)$": {"minimum": 2}}, "properties": {"a": {"type": "integer"}}} | ONLY,
        ["{}", '{"a":2}', '{"a":2,"b":"x"}'],
        ['{"a":1}', '{"a":"x"}', '{"b":1}', '{"a":2,', '{"c":1}'],
    ),
    ({"type": "object", "required": ["a", "b"], "minProperties": 2}, ['{"a":1,"b":2}'], ['{"a":1}']),
    ({"type": "array", "uniqueItems": False}, ["[1,1]"], ["1"]),
    (True, ["1", "{}"], ["x"]),
]

ENDLESS = {"type": "array", "items": {"$ref": "#/$defs/l"}, "minItems": 1}

REFUSED: list[tuple[Any, str, str]] = [
    ({"properties": {"a/b": {"not": {}}}}, "`not`", "#/properties/a~1b/not"),
    ({"items": {"uniqueItems": True}}, "`uniqueItems`", "#/items/uniqueItems"),
    ({"if": {}, "then": {}}, "`if`", "#/if"),
    ({"$ref": "https://example.org/schema"}, "another document", "#/$ref"),
    ({"$ref": "#/$defs/missing"}, "nothing", "#/$ref"),
    ({"$schema": "http://json-schema.org/draft-03/schema#"}, "`$schema`", "#/$schema"),
    ({"type": "str"}, "`type`", "#/type"),
    ({"properties": []}, "`properties`", "#/properties"),
    ({"properties": {"a": 3}}, "a schema must be", "#/properties/a"),
    ({"anyOf": []}, "`anyOf`", "#/anyOf"),
    ({"minLength": -1}, "`minLength`", "#/minLength"),
    ({"minimum": "3"}, "`minimum`", "#/minimum"),
    ({"multipleOf": 0}, "`multipleOf`", "#/multipleOf"),
    ({"format": "iri"}, "`format`", "#/format"),
    ({"pattern": "a{1000}" * 30}, "`pattern`", "#/pattern"),
    ({"pattern": "((a{100}){100}){100}"}, "`pattern`", "#/pattern"),
    ({"pattern": "a" * 9000}, "`pattern`", "#/pattern"),
    ({"pattern": "[^]"}, "`pattern`", "#/pattern"),
    ({"type": "object", "minProperties": 2}, "`minProperties`", "#/minProperties"),
    ({"properties": {str(i): {} for i in range(1001)}}, "1,001 properties", "#/properties"),
    ({"enum": list(range(10_001))}, "10,001 values", "#/enum"),
    ({"enum": [[[0] * 5] * 2000]}, "values", "#/enum"),
    ({"patternProperties": {f"^{i}-": {} for i in range(65)}}, "65 patterns", "#/patternProperties"),
    ({"anyOf": [{"properties": {str(i): {} for i in range(900)}}] * 3}, "large ones", "#/anyOf/2/properties"),
    ({"items": {"$id": "urn:b"}}, "`$id`", "#/items/$id"),
    ({"propertyNames": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/a"}}}, "`pattern`", "#/propertyNames"),
    (
        {"propertyNames": {"$ref": "#/$defs/a", "maxLength": 3}, "$defs": {"a": {"pattern": "a"}}},
        "nothing else",
        "#/propertyNames",
    ),
    ({"x-guidance": {"lenient": True}}, "`x-guidance`", "#/x-guidance"),
    ({"$ref": "#"}, "without end", "#"),
    ({"items": {"$ref": "#/$defs/l"}, "$defs": {"l": ENDLESS}}, "without end", "#/$defs/l"),
    ({"propertyNames": {"$ref": "#/propertyNames"}}, "`propertyNames`", "#/propertyNames"),
    (False, "false", "#"),
    ([], "a schema must be", "#"),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), KEPT, ids=lambda value: json.dumps(value)[:60])
def test_a_schema_is_kept(schema: Any, valid: list[str], invalid: list[str]) -> None:
    grammar = json_grammar(schema).text
    assert [text for text in valid if not takes(grammar, text)] == []
    assert [text for text in invalid if takes(grammar, text)] == []


@pytest.mark.parametrize(("schema", "said", "place"), REFUSED, ids=lambda value: json.dumps(value)[:60])
def test_what_cannot_be_kept_is_refused_with_its_place(schema: Any, said: str, place: str) -> None:
    with pytest.raises(BadRequest) as refused:
        json_grammar(schema)
    assert said in refused.value.message
    assert f"{place}:" in refused.value.message


def test_a_schema_of_too_many_schemas_is_refused() -> None:
    with pytest.raises(BadRequest, match="10,000 schemas"):
        json_grammar({"anyOf": [{"properties": {str(i): {} for i in range(99)}} for _ in range(101)]})


def _chain(n: int) -> dict[str, Any]:
    """Each definition needs the next one."""
    return {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}, "type": "array", "minItems": 1} for i in range(n)}


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"$ref": "#z"}] * 3000, "$defs": {"z": {"$anchor": "z"}, **{f"d{i}": {} for i in range(3000)}}},
        {"$ref": "#/$defs/d0", "$defs": {**_chain(4000), "d4000": {"type": "null"}}},
        {
            "oneOf": [{"allOf": [{"$ref": "#/$defs/e"}, {"const": str(i)}]} for i in range(64)],
            "$defs": {"e": {"enum": [str(i) for i in range(2000)]}},
        },
    ],
    ids=["references to an anchor", "definitions in a row", "options with a long list in common"],
)
def test_large_schemas_take_no_minutes(schema: Any) -> None:
    assert json_grammar(schema).text  # the first two took minutes, the last one half a minute


LETTERS = [f"^(.*[a-c]){{{n}}}.*$" for n in range(2, 30)]  # of which each doubles the work


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"pattern": p} for p in LETTERS]},
        {"allOf": [{"anyOf": [{"pattern": p}, {"type": "null"}]} for p in LETTERS]},
        {"allOf": [{"properties": {"a": {"items": {"pattern": p}}}} for p in LETTERS]},
        {
            "allOf": [{"$ref": f"#/$defs/{n}"} for n in range(28)],
            "$defs": {str(n): {"pattern": LETTERS[n]} for n in range(28)},
        },
    ],
    ids=["of one schema", "in choices", "of one member", "in definitions"],
)
def test_many_patterns_of_one_text_are_refused(schema: Any) -> None:
    with pytest.raises(BadRequest, match="12 patterns"):
        json_grammar(schema)


def test_many_patterns_of_many_texts_are_taken() -> None:
    dated = {"type": "object", "properties": {str(n): {"type": "string", "format": "date-time"} for n in range(30)}}
    choice = {"anyOf": [{"properties": {"at": {"pattern": p}}} for p in LETTERS]}
    assert json_grammar({"allOf": [dated, {"properties": {"3": {"maxLength": 40}}}, choice]}).text
    tree = {**dated, "additionalProperties": {"$ref": "#/$defs/tree"}}
    assert json_grammar({"$ref": "#/$defs/tree", "$defs": {"tree": tree}}).text


def test_long_names_are_cut_in_places() -> None:
    with pytest.raises(BadRequest) as refused:
        json_grammar({"properties": {"a" * 100_000: {"not": {}}}})
    assert len(refused.value.message) < 300


def test_definitions_that_nothing_refers_to_are_not_looked_at() -> None:
    assert "not" not in json_grammar({"type": "null", "$defs": {"x": {"not": {}}}}).text


@pytest.mark.parametrize(
    ("schema", "said", "place"),
    [
        ({"properties": {"a": {"items": {"pattern": "a$b"}}}}, "lookarounds", "#/properties/a/items"),
        ({"properties": {"a": {"oneOf": [{"type": "string"}, {"minLength": 3}]}}}, "`oneOf`", "#/properties/a"),
        ({"oneOf": [{"const": {"a": 1}}, {"const": {"a": 1.0}}]}, "`oneOf`", "#"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer", "minimum": 5, "maximum": 3}}}, "(5)", "#/$defs/x"),
    ],
)
def test_what_the_engine_refuses_is_explained_and_placed(schema: Any, said: str, place: str) -> None:
    grammar = json_grammar(schema)
    fault = LLMatcher.validate_grammar(grammar.text)
    assert fault
    explained = grammar.explained(" ".join(fault.split()))
    assert said in explained
    assert explained.endswith(f"(at {place})")


def test_white_space_is_bounded_chosen_or_left_out() -> None:
    assert takes(any_object().text, '{"a":\n    1}')
    assert not takes(any_object().text, '{"a":\n\n1}')
    assert takes(any_object(Spacing("[ ]{3}")).text, '{"a":   1}')
    assert not takes(any_object(Spacing(None)).text, '{"a": 1}')


def test_objects_may_be_closed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}}}
    assert takes(json_grammar(schema).text, '{"a":{"c":1}}')
    assert not takes(json_grammar(schema, Spacing(closed=True)).text, '{"a":{"c":1}}')
