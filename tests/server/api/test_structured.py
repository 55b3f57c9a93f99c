"""Fields that ask for a structured answer: what is taken, and which sentence says what is wrong with the rest."""

import json
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.api.requests.structured import asked_of
from deltaserve.server.grammars.json_schema import JsonGrammar
from tests.support.app import RunningApp
from tests.support.grammars import takes

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}
TAG = '{"type": "structural_tag", "structures": [{"begin": "<a>", "schema": {}, "end": "</a>"}], "triggers": ["<a"]}'


def schema_format(schema: Any, **other: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **other}}}


def grammar_of(tokenizer: Tokenizer, **fields: Any) -> str:
    asked = asked_of(ChatRequest.model_validate({**CHAT, **fields}), tokenizer)
    assert asked is not None
    made = asked.make()
    return made.text if isinstance(made, JsonGrammar) else made


@pytest.mark.parametrize(
    ("fields", "taken", "not_taken"),
    [
        ({"response_format": {"type": "json_object"}}, '{"b": [1]}', "[1]"),
        (schema_format(OBJECT), '{"a": 1}', '{"a": "1"}'),
        (schema_format(OBJECT, strict=True, description="d"), '{"a": 1}', '{"a": "1"}'),
        (schema_format(OBJECT, strict=None, description=None), '{"a": 1}', '{"a": "1"}'),
        ({"structured_outputs": {"json": OBJECT}}, '{"b": 1}', '{"a": "1"}'),
        ({"structured_outputs": {"json": '{"type": "integer"}'}}, "17", "a"),
        ({"structured_outputs": {"json": OBJECT, "disable_any_whitespace": True}}, '{"a":1}', '{"a": 1}'),
        ({"structured_outputs": {"json": OBJECT, "whitespace_pattern": "[ ]{2}"}}, '{"a":  1}', '{"a": 1}'),
        ({"structured_outputs": {"json": OBJECT, "disable_additional_properties": True}}, '{"a":1}', '{"b":1}'),
        ({"structured_outputs": {"json_object": True}}, "{}", "[]"),
        ({"structured_outputs": {"regex": "[ab]{2}"}}, "ab", "abc"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "no", "yesno"),
        ({"structured_outputs": {"grammar": 'root ::= "a" | "b"'}}, "b", "ab"),
        ({"structured_outputs": {"structural_tag": TAG}}, "x <a>1</a> y", "<a>x"),
        ({"response_format": json.loads(TAG)}, "x <a>1</a> y", "<a>x"),
        ({"structural_tag": TAG}, "x", "<b><a>"),
        ({"guided_json": OBJECT, "guided_decoding_backend": "xgrammar"}, '{"a": 1}', '{"a": "1"}'),
        ({"guided_json": OBJECT, "guided_whitespace_pattern": "[ ]{2}"}, '{"a":  1}', '{"a": 1}'),
        ({"guided_regex": "[ab]{2}"}, "ab", "abc"),
        ({"guided_choice": ["yes", "no"]}, "yes", "y"),
        ({"guided_grammar": 'start: "a" | "b"'}, "a", "ab"),
    ],
    ids=str,
)
def test_a_field_holds_the_answer(tokenizer: Tokenizer, fields: dict[str, Any], taken: str, not_taken: str) -> None:
    grammar = grammar_of(tokenizer, **fields)
    assert takes(grammar, taken)
    assert not takes(grammar, not_taken)


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}, {"structured_outputs": {}}])
def test_an_answer_may_be_free(tokenizer: Tokenizer, fields: dict[str, Any]) -> None:
    assert asked_of(ChatRequest.model_validate({**CHAT, **fields}), tokenizer) is None


def test_a_special_token_of_a_tag_is_that_token(tokenizer: Tokenizer) -> None:
    tag = {"begin": "<|im_start|>call ", "schema": OBJECT, "end": "<|im_end|>"}
    form = {"type": "structural_tag", "structures": [tag], "triggers": ["<|im_start|>"]}
    assert "TAG_TEXT <[256]>" in grammar_of(tokenizer, response_format=form)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        (schema_format(OBJECT) | {"guided_regex": "a"}, "guided_regex", "two forms"),
        ({"structured_outputs": {"json": OBJECT, "regex": "a"}}, "structured_outputs", "two forms"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs", "one of json, regex"),
        ({"structured_outputs": {"jsn": OBJECT}}, "structured_outputs", "structured_outputs.jsn"),
        (
            {"structured_outputs": {"json": {}, "disable_any_whitespace": True, "whitespace_pattern": " "}},
            "structured_outputs",
            "contradict",
        ),
        ({"response_format": {"type": "xml"}}, "response_format", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "response_format.json_schema"),
        (schema_format(OBJECT, name="a b"), "response_format", "response_format.json_schema.name"),
        (schema_format(None), "response_format", "response_format.json_schema.schema"),
        (schema_format(OBJECT, strict="yes"), "response_format", "response_format.json_schema.strict"),
        (schema_format({"properties": {"a": {"not": {}}}}), "response_format", "`not` at #/properties/a/not"),
        (schema_format({"items": {"pattern": "a$b"}}), "response_format", "(at #/items)"),
        ({"guided_regex": "(("}, "guided_regex", "unclosed group"),
        ({"guided_grammar": "start: b"}, "guided_grammar", "guided_grammar"),
        ({"guided_choice": []}, "guided_choice", "one string or more"),
        ({"guided_json": "{"}, "guided_json", "valid JSON"),
        ({"guided_json": 3}, "guided_json", "guided_json"),
        ({"structural_tag": '{"type": "structural_tag", "format": {}}'}, "structural_tag", "`format` is not built"),
        ({"structural_tag": "{}"}, "structural_tag", "type is not accepted"),
        ({"guided_regex": "a", "min_tokens": 2}, "min_tokens", "min_tokens"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "ignore_eos"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(app: RunningApp, fields: dict[str, Any], param: str, said: str) -> None:
    calls = app.box.calls
    response = httpx.post(f"{app.url}/v1/chat/completions", json={**CHAT, **fields}, timeout=30)
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"] == param
    assert said in error["message"]
    assert app.box.calls == calls


def test_an_echo_alone_has_no_structured_answer(app: RunningApp) -> None:
    body = {"prompt": "a", "max_tokens": 0, "echo": True, "guided_regex": "a"}
    response = httpx.post(f"{app.url}/v1/completions", json=body, timeout=30)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "echo"
