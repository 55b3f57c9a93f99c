"""Definitions that no finite value satisfies (a list's item that must be such a list): an answer would never end."""

from collections.abc import Mapping
from typing import Any


def endless(definitions: Mapping[str, Any]) -> frozenset[str]:
    """Names of translated definitions, each of which needs itself."""
    finite: frozenset[str] = frozenset()
    while True:
        more = frozenset(name for name, schema in definitions.items() if name in finite or _ends(schema, finite))
        if more == finite:
            return frozenset(definitions) - finite
        finite = more


def _ends(schema: Any, finite: frozenset[str]) -> bool:
    if not isinstance(schema, Mapping):
        return schema is not False
    choices = [schema[name] for name in ("anyOf", "oneOf") if name in schema]
    return (
        ("$ref" not in schema or schema["$ref"].rpartition("/")[2] in finite)
        and all(_ends(part, finite) for part in schema.get("allOf", ()))
        and all(any(_ends(option, finite) for option in options) for options in choices)
        and (schema.get("type") != "object" or _members_end(schema, finite))
        and (schema.get("type") != "array" or _items_end(schema, finite))
    )


def _members_end(schema: Mapping[str, Any], finite: frozenset[str]) -> bool:
    properties = schema.get("properties", {})
    return all(_ends(properties.get(name, True), finite) for name in schema.get("required", ()))


def _items_end(schema: Mapping[str, Any], finite: frozenset[str]) -> bool:
    least = schema.get("minItems", 0)
    first = schema.get("prefixItems", ())[:least]
    return all(_ends(item, finite) for item in first) and (
        least <= len(first) or _ends(schema.get("items", True), finite)
    )
