"""Whether no value satisfies both of two schemas: then `oneOf` says no more than `anyOf`, which a grammar can hold."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from deltaserve.server.grammars.keywords import TYPES

Schema = Mapping[str, Any]

_DEEPEST: Final = 8
_MOST_OPTIONS: Final = 64
_MOST_STEPS: Final = 50_000  # what is not proved by then stays unproved


def all_disjoint(options: Sequence[Any], definitions: Mapping[str, Any]) -> bool:
    """Whether it can be proved, of translated schemas, that no two of `options` have a value in common."""
    proof = _Proof(definitions)
    return len(options) <= _MOST_OPTIONS and all(proof.disjoint(*pair, 0) for pair in combinations(options, 2))


@dataclass(slots=True)
class _Proof:
    definitions: Mapping[str, Any]
    steps: int = 0

    def disjoint(self, one: Any, other: Any, depth: int) -> bool:
        if one is False or other is False:
            return True
        if depth > _DEEPEST or self._tired() or one is True or other is True:
            return False
        ones, others = list(self._parts(one, 0)), list(self._parts(other, 0))
        return (
            not _types(ones) & _types(others)
            or _values_apart(ones, others)
            or _ranges_apart(ones, others)
            or self._members_apart(ones, others, depth)
            or self._split(ones, others, depth)
            or self._split(others, ones, depth)
        )

    def _parts(self, schema: Any, depth: int) -> Iterator[Schema]:
        """Schemas that all hold where `schema` holds: itself, what it refers to, and its `allOf`."""
        if not isinstance(schema, Mapping) or depth > _DEEPEST or self._tired():
            return
        yield schema
        if "$ref" in schema:
            yield from self._parts(self.definitions.get(schema["$ref"].rpartition("/")[2]), depth + 1)
        for part in schema.get("allOf", ()):
            yield from self._parts(part, depth + 1)

    def _split(self, ones: Sequence[Schema], others: Sequence[Schema], depth: int) -> bool:
        """Whether every option of one side's choice is apart from the other side."""
        choices = [part[name] for part in ones for name in ("anyOf", "oneOf") if name in part]
        whole = {"allOf": list(others)}
        return any(all(self.disjoint(option, whole, depth + 1) for option in options) for options in choices)

    def _members_apart(self, ones: Sequence[Schema], others: Sequence[Schema], depth: int) -> bool:
        """Of objects alone: a member that one side must have, and that cannot be as both sides want it."""
        objects = frozenset({"object"})
        if not (_types(ones) <= objects and _types(others) <= objects):
            return False
        required = {name for part in (*ones, *others) for name in part.get("required", ())}
        return any(self.disjoint(_member(ones, name), _member(others, name), depth + 1) for name in sorted(required))

    def _tired(self) -> bool:
        self.steps += 1
        return self.steps > _MOST_STEPS


def _types(parts: Sequence[Schema]) -> frozenset[str]:
    """Types that a value may have; an integer is a number too, so that "number" stands for those that are not."""
    types = TYPES
    for part in parts:
        if "type" in part:
            named = part["type"]
            types &= _widened([named] if isinstance(named, str) else named)
        for value in _listed(part):
            types &= frozenset().union(*(_type_of(item) for item in value))
    return types


def _widened(names: Sequence[str]) -> frozenset[str]:
    return frozenset([*names, "integer"]) if "number" in names else frozenset(names)


def _listed(part: Schema) -> Iterator[Sequence[Any]]:
    if "enum" in part:
        yield part["enum"]
    if "const" in part:
        yield [part["const"]]


def _type_of(value: Any) -> frozenset[str]:
    if isinstance(value, bool):
        return frozenset(["boolean"])
    if isinstance(value, int | float):
        return frozenset(["integer", "number"])
    if isinstance(value, str):
        return frozenset(["string"])
    return frozenset(["array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"])


def _values_apart(ones: Sequence[Schema], others: Sequence[Schema]) -> bool:
    lists, others_lists = ([_spelled(v) for part in parts for v in _listed(part)] for parts in (ones, others))
    return any(not one & other for one in lists for other in others_lists)


def _spelled(values: Sequence[Any]) -> frozenset[str]:
    """1 and 1.0 are one value, and true is not 1."""
    return frozenset(
        json.dumps(int(v) if isinstance(v, float) and v.is_integer() else v, sort_keys=True) for v in values
    )


def _ranges_apart(ones: Sequence[Schema], others: Sequence[Schema]) -> bool:
    """Of numbers alone."""
    numbers = frozenset({"integer", "number"})
    if not (_types(ones) <= numbers and _types(others) <= numbers):
        return False
    return _below(ones, others) or _below(others, ones)


def _below(lower: Sequence[Schema], upper: Sequence[Schema]) -> bool:
    tops = [(part[n], n == "maximum") for part in lower for n in ("maximum", "exclusiveMaximum") if n in part]
    bottoms = [(part[n], n == "minimum") for part in upper for n in ("minimum", "exclusiveMinimum") if n in part]
    return any(
        top < bottom or (top == bottom and not (top_in and bottom_in))
        for top, top_in in tops
        for bottom, bottom_in in bottoms
    )


def _member(parts: Sequence[Schema], name: str) -> Any:
    """A schema that holds of this member, where there is one."""
    schemas = [_of_member(part, name) for part in parts]
    return False if False in [s for s in schemas if isinstance(s, bool)] else {"allOf": schemas}


def _of_member(part: Schema, name: str) -> Any:
    properties: Mapping[str, Any] = part.get("properties", {})
    if name in properties:
        return properties[name]
    return True if part.get("patternProperties") else part.get("additionalProperties", True)
