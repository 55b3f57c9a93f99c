"""Definitions that no finite value satisfies (a list's item that must be such a list): an answer would never end."""

from collections.abc import Mapping, Set
from typing import Any, Final

_MOST_PASSES: Final = 32  # what is undecided by then is taken for finite


def endless(definitions: Mapping[str, Any]) -> frozenset[str]:
    """Names of translated definitions, each of which needs itself."""
    finite: set[str] = set()
    for _ in range(_MOST_PASSES):
        known = len(finite)
        for name, schema in reversed([*definitions.items()]):  # what a definition refers to stands behind it
            if name not in finite and _ends(schema, finite):
                finite.add(name)
        if len(finite) == known:
            return frozenset(definitions) - finite
    return frozenset()


def _ends(schema: Any, finite: Set[str]) -> bool:
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


def _members_end(schema: Mapping[str, Any], finite: Set[str]) -> bool:
    properties = schema.get("properties", {})
    return all(_ends(properties.get(name, True), finite) for name in schema.get("required", ()))


def _items_end(schema: Mapping[str, Any], finite: Set[str]) -> bool:
    least = schema.get("minItems", 0)
    first = schema.get("prefixItems", ())[:least]
    return all(_ends(item, finite) for item in first) and (
        least <= len(first) or _ends(schema.get("items", True), finite)
    )
