"""Schemas of tools that are not strict: without what no grammar can keep, as OpenAI's best effort leaves it out."""

from collections.abc import Mapping
from typing import Any, Final

from llguidance import LLMatcher

from deltaserve.errors import BadRequest
from deltaserve.server.answers.tools.reading.typed import TYPES
from deltaserve.server.grammars.json_schema import json_grammar

_BY_NAME: Final = frozenset({"properties", "$defs", "definitions"})
_WITHIN: Final = frozenset({"items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"})


def loosened(schema: Any) -> Any:
    """The same without patterns that are no regular ones, types that JSON has not, and schemas of other documents.

    Further keywords that grammars do not know are left out by their compiler.
    """
    if isinstance(schema, list):
        return [loosened(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {name: _within(name, value) for name, value in schema.items() if _can_be_kept(name, value)}


def _within(name: str, value: Any) -> Any:
    if name in _BY_NAME and isinstance(value, Mapping):
        return {key: loosened(one) for key, one in value.items()}
    return loosened(value) if name in _WITHIN else value


def _can_be_kept(name: str, value: Any) -> bool:
    match name:
        case "pattern":
            return _regular(value)
        case "patternProperties":
            return isinstance(value, Mapping) and all(map(_regular, value))
        case "type":
            return all(one in TYPES for one in (value if isinstance(value, list) else [value]))
        case "$ref":
            return isinstance(value, str) and value.startswith("#")
    return True


def _regular(value: Any) -> bool:
    """Whether a grammar can keep this pattern: none that looks ahead or back, as generators write for an e-mail."""
    try:
        grammar = json_grammar({"type": "string", "pattern": value}).text
    except BadRequest:
        return False
    return not LLMatcher.validate_grammar(grammar)
