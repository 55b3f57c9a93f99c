"""What a grammar lets a model write is read back as calls that keep to the tools' schemas."""

import json
import random
from typing import Any

import jsonschema_rs
import pytest
from llguidance import LLMatcher

from deltaserve.errors import BadRequest
from deltaserve.server.answers.parts import CallArguments, CallBegun, Content, Part
from deltaserve.server.answers.tools.choosing import FORMATS
from deltaserve.server.answers.tools.holding import held
from deltaserve.server.answers.tools.protocol import NamedTool, Tool, ToolChoice, ToolFormat
from deltaserve.server.grammars.json_schema import json_grammar
from tests.support.answers import read, segments
from tests.support.grammar_walks import Vocabulary, walk

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 6},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 16},
        "hourly": {"type": "boolean"},
        "note": {"type": ["string", "null"]},
        "places": {"type": "array", "items": {"$ref": "#/$defs/place"}, "maxItems": 2},
    },
    "required": ["city", "places"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {
                "x": {"type": "number", "minimum": -2, "maximum": 2},
                "y": {"anyOf": [{"type": "null"}, {"const": "far"}]},
            },
            "required": ["y"],
            "additionalProperties": False,
        }
    },
}
TOOLS = (
    Tool("get_weather", SCHEMA, strict=True),
    Tool("now"),
    Tool("add", {"properties": {"a": {"type": "number", "minimum": 0, "maximum": 9}}}),
)
NONE = {"type": "object", "additionalProperties": False}
SCHEMAS = {tool.name: jsonschema_rs.validator_for({"type": "object", **(tool.parameters or NONE)}) for tool in TOOLS}
FORCED: tuple[tuple[ToolChoice, bool], ...] = (
    ("required", True),
    ("required", False),
    (NamedTool("get_weather"), True),
)
# What a model writes that is about to call a tool, where it need not.
BEGINNINGS = {
    "harmony": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.",
    "deepseek_v3": "So: <｜tool▁calls▁begin｜>",
    "deepseek_v31": "So: <｜tool▁calls▁begin｜>",
    "mistral": "So: [TOOL_CALLS]",
    "mistral_v11": "So: [TOOL_CALLS]",
    "function_gemma": "So: <start_function_call>",
    "gemma4": "So: <|tool_call>",
    "functionary": "all\nSo:>>>now\n",
    "qwen3_coder": "So: <tool_call>",
    "functionary_v31": "So: <function=",
    "hermes": "So: <tool_call>",
    "gemma": "So: ```tool_code",
    "llama3_pythonic": "[now(",
    "llama3_json": '{"name"',
}
PHRASES = ("\n</parameter>\n", ">>>now\n", "all\n", "```tool_code", "[", "[now(", '{"name": ', "<function=", "\n", "}")


def _answers(form: ToolFormat, choice: ToolChoice, parallel: bool, tokens: bool) -> list[list[Part]]:
    vocabulary = Vocabulary(form.markers() if tokens else ())
    grammar = form.grammar(TOOLS, choice, parallel, vocabulary.special)
    assert grammar is not None
    answers = []
    begin = segments(BEGINNINGS[form.name], vocabulary.special)
    for seed in range(2):
        started = begin if choice == "auto" and seed % 2 else ()
        ids = walk(grammar, vocabulary, (*PHRASES, *form.markers()), random.Random(seed), started)
        answers.append(read(form.parser(TOOLS, vocabulary.special), vocabulary.segments(ids)))
    return answers


def _check(parts: list[Part]) -> int:
    """How many calls there are, all whole and valid."""
    begun = [part for part in parts if isinstance(part, CallBegun)]
    arguments = {part.index: part.text for part in parts if isinstance(part, CallArguments)}
    for one in begun:
        SCHEMAS[one.name].validate(json.loads(arguments[one.index]))
    return len(begun)


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "letters"])
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_a_forced_call_is_valid_and_nothing_else_is_written(form: ToolFormat, tokens: bool) -> None:
    for choice, parallel in FORCED:
        for parts in _answers(form, choice, parallel, tokens):
            count = _check(parts)
            assert count == 1 or (count > 1 and parallel and choice == "required")
            assert form.reasons or not any(isinstance(part, Content) for part in parts)
            names = {part.name for part in parts if isinstance(part, CallBegun)}
            assert choice == "required" or names == {"get_weather"}


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "letters"])
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_where_the_model_may_choose_a_begun_call_is_valid(form: ToolFormat, tokens: bool) -> None:
    several = [_check(parts) for parts in _answers(form, "auto", True, tokens)]
    one = [_check(parts) for parts in _answers(form, "auto", False, tokens)]
    assert max(one) == 1 <= max(several)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_nothing_is_constrained_without_tools_and_where_none_is_chosen(form: ToolFormat) -> None:
    assert form.grammar((), "auto", True, {}) is None
    assert form.grammar(TOOLS, "none", True, {}) is None
    with pytest.raises(BadRequest, match="not among the tools"):
        form.grammar(TOOLS, NamedTool("other"), True, {})


def test_a_strict_schema_is_kept_whole_or_refused_and_any_other_as_far_as_it_can_be() -> None:
    odd = {"type": "object", "properties": {"a": {"type": "string", "not": {"const": "b"}}}}
    form = FORMATS[0]
    loose = form.grammar([Tool("f", odd)], "required", True, {})
    assert loose is not None and not LLMatcher.validate_grammar(loose)
    with pytest.raises(BadRequest, match="`not`") as refused:
        form.grammar([Tool("f", odd, strict=True)], "required", True, {})
    assert refused.value.param == "tools"


# What stands before an answer's text.
HEADS = {"harmony": "<|channel|>final<|message|>", "functionary": "all\n"}


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "letters"])
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_an_answer_with_a_form_has_it_or_calls_a_tool_instead(form: ToolFormat, tokens: bool) -> None:
    special = Vocabulary(form.markers() if tokens else ()).special
    schema = {"type": "object", "properties": {"answer": {"$ref": "#/$defs/n"}}, "required": ["answer"]}
    answer = json_grammar({**schema, "additionalProperties": False, "$defs": {"n": {"type": "integer"}}}).text
    text = HEADS.get(form.name, "") + '{"answer": 1}'
    begun = BEGINNINGS[form.name].removeprefix("So: ").removeprefix("all\nSo:>>>")
    for tools in ((), TOOLS):
        grammar = held(answer, form, tools, True, special)
        assert _allowed(grammar, form, tokens, text) and not _allowed(grammar, form, tokens, text[:-2] + "x")
        assert _allowed(grammar, form, tokens, begun) is bool(tools)
    assert read(form.parser(TOOLS, special), segments(text, special)) == [Content('{"answer": 1}')]


def _allowed(grammar: str, form: ToolFormat, tokens: bool, text: str) -> bool:
    """Whether an answer may begin with this text."""
    vocabulary = Vocabulary(form.markers() if tokens else ())
    matcher = LLMatcher(vocabulary.tokenizer, grammar, log_level=0)
    return matcher.consume_tokens(vocabulary.joined(segments(text, vocabulary.special)))
