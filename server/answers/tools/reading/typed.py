"""Text of a parameter to JSON, by the type that the tool's schema gives it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deltaserve.server.answers.tools.protocol import Tool
from deltaserve.server.answers.tools.reading.loose import word_as_json

STRING: Final = frozenset({"string"})
_KINDS: Final = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
_MOST_REFERENCES: Final = 16  # followed one behind the other
_MOST_OPTIONS: Final = 256  # of one value, with those inside of options


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


def types_of(schema: Any, root: Mapping[str, Any]) -> frozenset[str]:
    """Names of JSON types that the schema allows; empty: any. Each of its options is looked at once, of many none."""
    kinds: set[str] = set()
    waiting, seen = [schema], set[int]()
    while waiting:
        one = resolved(waiting.pop(), root)
        if id(one) in seen:
            continue
        seen.add(id(one))
        options = one.get("anyOf") or one.get("oneOf")
        if own := _named(one):
            kinds |= own
        elif isinstance(options, list) and len(seen) <= _MOST_OPTIONS:
            waiting += options
        else:
            return frozenset()
    return frozenset(kinds)


def _named(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema names itself; JSON knows no others."""
    if kind := schema.get("type"):
        return frozenset(one for one in (kind if isinstance(kind, list) else [kind]) if one in TYPES)
    if "const" in schema:
        return frozenset([kind_of(schema["const"])])
    values = schema.get("enum")
    return frozenset(map(kind_of, values)) if isinstance(values, list) else frozenset()


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
        kind = kind_of(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return False
    if types == STRING or (kind == "string" and "string" in types):
        return False  # what a string says is written without quotes
    return not types or kind in types or (kind == "integer" and "number" in types)


def _refuse(constant: str) -> None:
    """Python reads NaN and the infinities, which are no JSON."""
    raise ValueError(constant)
