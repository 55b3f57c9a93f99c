"""`structured_outputs` and `response_format` as grammars."""

import json
from typing import Any, Final

from llguidance import LLMatcher, grammar_from

from deltaserve.offset_models.demo.blackbox.http.errors import ApiError

_FIELDS: Final = ("json", "regex", "choice", "grammar", "json_object")
_SPACED: Final = {"whitespace_flexible": True}


def grammar_of(outputs: dict[str, Any] | None, form: dict[str, Any] | None) -> str | None:
    """What the answer is held to, as llguidance has it; None: nothing. Raises ApiError (400)."""
    asked = {name: value for name, value in (outputs or {}).items() if value is not None and value is not False}
    if form is not None and form.get("type") != "text":
        asked |= _of_format(form)
    if not asked:
        return None
    if len(asked) > 1 or not asked.keys() <= set(_FIELDS):
        raise ApiError(f"You can only use one kind of structured outputs: {', '.join(_FIELDS)}.")
    try:
        return _grammar(*asked.popitem())
    except (ValueError, TypeError) as error:
        raise ApiError(f"Invalid grammar specification: {error}") from None


def _of_format(form: dict[str, Any]) -> dict[str, Any]:
    if form.get("type") == "json_schema":
        return {"json": (form.get("json_schema") or {}).get("schema")}
    return {"json_object": True} if form.get("type") == "json_object" else {str(form.get("type")): form}


def _grammar(kind: str, value: Any) -> str:
    if kind == "json_object":
        kind, value = "json", {"type": "object"}
    if kind == "json":
        schema = value if isinstance(value, str) else json.dumps(value)
        return str(LLMatcher.grammar_from_json_schema(schema, defaults=_SPACED))  # type: ignore[arg-type]
    if kind == "choice":
        return grammar_from("choice", json.dumps([str(text) for text in value]))
    return grammar_from("regex" if kind == "regex" else "grammar", str(value))
