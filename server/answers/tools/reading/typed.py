"""Text of a parameter to JSON, by the type that the tool's schema gives it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deltaserve.server.answers.tools.protocol import Tool
from deltaserve.server.answers.tools.reading.loose import word_as_json

STRING: Final = frozenset({"string"})
_KINDS: Final = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
_MOST_REFERENCES: Final = 16  # followed one behind the other


def parameter_types(tools: Sequence[Tool], name: str, key: str) -> frozenset[str]:
    """Names of JSON types that the parameter may have; empty: any. One that no schema names is a string."""
    for tool in tools:
        if tool.name == name and tool.parameters and key in (tool.parameters.get("properties") or {}):
            return types_of(tool.parameters["properties"][key], tool.parameters)
    return STRING


def resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a local `$ref` names."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        schema = _at(root, reference[2:].split("/"))
    return {}


def _at(root: Any, path: Sequence[str]) -> Any:
    for step in path:
        root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, Mapping) else None
    return root


def types_of(schema: Any, root: Mapping[str, Any], depth: int = 0) -> frozenset[str]:
    """Names of JSON types that the schema allows; empty: any."""
    schema = resolved(schema, root)
    if kind := schema.get("type"):
        return frozenset([kind] if isinstance(kind, str) else kind)
    if "const" in schema:
        return frozenset([kind_of(schema["const"])])
    if isinstance(schema.get("enum"), Sequence):
        return frozenset(map(kind_of, schema["enum"]))
    options = schema.get("anyOf") or schema.get("oneOf") or ()
    if depth > _MOST_REFERENCES or not isinstance(options, Sequence):
        return frozenset()
    kinds = [types_of(one, root, depth + 1) for one in options]
    return frozenset().union(*kinds) if all(kinds) else frozenset()


def kind_of(value: Any) -> str:
    """JSON's name for the type of a value."""
    return _KINDS.get(type(value), "null")


def as_json(text: str, types: frozenset[str]) -> str:
    """The text as it is where it is JSON of such a type; else a constant of Python, or a string."""
    written = text.strip()
    for candidate in (written, word_as_json(written)):
        if _fits(candidate, types):
            return candidate
    return json.dumps(text, ensure_ascii=False)


def _fits(text: str, types: frozenset[str]) -> bool:
    try:
        kind = kind_of(json.loads(text))
    except (ValueError, RecursionError):
        return False
    if types == STRING or (kind == "string" and "string" in types):
        return False  # what a string says is written without quotes
    return not types or kind in types or (kind == "integer" and "number" in types)
