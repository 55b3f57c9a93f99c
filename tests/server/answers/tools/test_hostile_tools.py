"""Tools whose schemas are no schemas, or that would take long: a sentence, and neither a defect nor a hang."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher

from deltaserve.errors import BadRequest
from deltaserve.server.answers.parts import CallArguments
from deltaserve.server.answers.tools.choosing import FORMATS, format_of
from deltaserve.server.answers.tools.grammars.bounds import refuse_large
from deltaserve.server.answers.tools.protocol import Tool, ToolFormat
from deltaserve.server.answers.tools.reading.typed import types_of
from tests.support.answers import read, segments

WRITTEN = ("function_gemma", "gemma4", "qwen3_coder", "gemma", "llama3_pythonic")  # not as JSON
WEIRD: tuple[dict[str, Any], ...] = (
    {"type": 5},
    {"type": [[]]},
    {"enum": 5},
    {"properties": 5},
    {"properties": {"a": 5}},
    {"type": "object", "required": [{}]},
    {"type": "object", "required": "abc"},
    {"type": "array", "items": 5},
    {"type": "array", "minItems": "x"},
    {"type": "string", "minLength": -1},
    {"anyOf": 5},
    {"oneOf": [5]},
)


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_no_schema_is_refused_with_its_keyword(name: str) -> None:
    form = format_of("", name)
    assert form is not None
    for schema in WEIRD:
        for parameters in (schema, {"properties": {"a": schema}}, {"properties": {"a": {"anyOf": [schema]}}}):
            with pytest.raises(BadRequest, match="parameters of the tool `f`: `") as refused:
                form.grammar([Tool("f", parameters)], "required", True, {})
            assert refused.value.param == "tools"


def references(levels: int, width: int) -> dict[str, Any]:
    """Each definition names the next one many times, by properties or as options."""
    named: dict[str, Any] = {f"d{levels}": {"type": "string"}, f"o{levels}": {"type": "string"}}
    for level in range(levels):
        lower, option = {"$ref": f"#/$defs/d{level + 1}"}, {"$ref": f"#/$defs/o{level + 1}"}
        named[f"d{level}"] = {"type": "object", "properties": {f"p{n}": lower for n in range(width)}}
        named[f"o{level}"] = {"anyOf": [option] * width}
    named["self"] = {"anyOf": [{"$ref": "#/$defs/self"}] * width}
    properties = {"d": {"$ref": "#/$defs/d0"}, "o": {"$ref": "#/$defs/o0"}, "s": {"$ref": "#/$defs/self"}}
    return {"type": "object", "properties": properties, "$defs": named}


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_references_do_not_multiply(form: ToolFormat) -> None:
    schema = references(9, 8)
    del schema["properties"]["s"]
    grammar = form.grammar([Tool("f", schema)], "required", True, {})
    assert grammar is not None and len(grammar) < 100_000


def test_options_that_name_themselves_have_no_type_of_their_own() -> None:
    schema = references(40, 8)
    assert types_of(schema["properties"]["o"], schema) == {"string"}
    assert types_of(schema["properties"]["s"], schema) == frozenset()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_tool_may_have_hundreds_of_parameters_that_may_be_left_out(name: str) -> None:
    form = format_of("", name)
    assert form is not None
    tool = Tool("f", {"properties": {f"p{n}": {"type": "string"} for n in range(300)}})
    grammar = form.grammar([tool], "required", True, {})
    assert grammar is not None and not LLMatcher.validate_grammar(grammar)


def test_tools_are_bounded_together_strict_or_not() -> None:
    large = {"properties": {f"p{n}": {"type": "string"} for n in range(1000)}}
    refuse_large([Tool("f", large), Tool("g", {"properties": {"properties": {"type": "string"}}})])
    larger = {"properties": {**large["properties"], "p1000": {}}}
    for tools in ([Tool("f", larger)], [Tool(f"f{n}", large) for n in range(3)], [Tool(f"f{n}") for n in range(513)]):
        with pytest.raises(BadRequest, match="tools") as refused:
            refuse_large(tools)
        assert refused.value.param == "tools"


COMMON: dict[str, Any] = {  # as generators of schemas write them
    "email": {"type": "string", "format": "email", "pattern": r"^(?!\.)(?!.*\.\.)([a-z.]*)[a-z]@([a-z]+\.)+[a-z]{2,}$"},
    "any": {"type": "any"},
    "size": {"type": "float"},
    "other": {"$ref": "https://example.org/schema"},
    "old": {"type": "string", "required": True},
    "pair": {"type": "array", "items": [{"type": "string"}]},
    "pattern": {"type": "string", "pattern": "^a+$"},
}


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_what_no_grammar_can_keep_of_a_tool_that_is_not_strict_is_left_out(form: ToolFormat) -> None:
    grammar = form.grammar([Tool("f", {"type": "object", "properties": COMMON})], "required", True, {})
    assert grammar is not None and not LLMatcher.validate_grammar(grammar)
    if name_is_json(form):
        assert '"pattern": "^a+$"' in grammar and '"properties": {"email"' in grammar


def name_is_json(form: ToolFormat) -> bool:
    return form.name not in WRITTEN


@pytest.mark.parametrize("value", ["NaN", "-Infinity", '{"a": [NaN]}'])
def test_what_json_has_no_number_for_is_a_text(value: str) -> None:
    form = format_of("", "qwen3_coder")
    assert form is not None
    tool = Tool("f", {"properties": {"n": {"type": ["number", "object"]}}})
    text = f"<tool_call>\n<function=f>\n<parameter=n>\n{value}\n</parameter>\n</function>\n</tool_call>"
    said = [part.text for part in read(form.parser([tool], {}), segments(text, {})) if isinstance(part, CallArguments)]
    assert json.loads("".join(said), parse_constant=pytest.fail) == {"n": value}
