"""Whether no value satisfies both of two schemas: then `oneOf` says no more than `anyOf`, which a grammar can hold."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, Final

from deltaserve.server.grammars.keywords import TYPES

Schema = Mapping[str, Any]

_DEEPEST: Final = 8
_MOST_OPTIONS: Final = 64
_MOST_STEPS_OF_ONE: Final = 50_000  # for one choice
_MOST_STEPS: Final = 150_000  # for all choices of a schema
_CHEAP: Final = 32  # names or values in a set that cost as much as a step


@dataclass(frozen=True, slots=True)
class _Values:
    """Of an `enum` or a `const`."""

    types: frozenset[str]
    texts: frozenset[str]

    @classmethod
    def of(cls, values: Sequence[Any]) -> "_Values":
        return cls(frozenset().union(*map(_type_of, values)), frozenset(map(_spelled, values)))


@dataclass(slots=True)
class Proofs:
    """Of one schema's choices. What is not proved within the steps that are left stays unproved."""

    definitions: Mapping[str, Any]
    _left: int = _MOST_STEPS
    _least: int = 0  # steps that must be left for the choice at hand to go on
    _values: dict[int, Sequence[_Values]] = field(default_factory=dict)  # by the id of a schema, which is kept

    def all_disjoint(self, options: Sequence[Any]) -> bool:
        """Whether it can be proved, of translated schemas, that no two of `options` have a value in common."""
        self._least = max(self._left - _MOST_STEPS_OF_ONE, 0)
        return len(options) <= _MOST_OPTIONS and all(self._disjoint(*pair, 0) for pair in combinations(options, 2))

    def _disjoint(self, one: Any, other: Any, depth: int) -> bool:
        if one is False or other is False:
            return True
        if depth > _DEEPEST or self._tired() or one is True or other is True:
            return False
        ones, others = list(self._parts(one, 0)), list(self._parts(other, 0))
        return (
            not self._types(ones) & self._types(others)
            or self._values_apart(ones, others)
            or self._ranges_apart(ones, others)
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
        return any(all(self._disjoint(option, whole, depth + 1) for option in options) for options in choices)

    def _members_apart(self, ones: Sequence[Schema], others: Sequence[Schema], depth: int) -> bool:
        """Of objects alone: a member that one side must have, and that cannot be as both sides want it."""
        objects = frozenset({"object"})
        if not (self._types(ones) <= objects and self._types(others) <= objects):
            return False
        required = {name for part in (*ones, *others) for name in part.get("required", ())}
        if self._tired(len(required) // _CHEAP):
            return False
        return any(self._disjoint(_member(ones, name), _member(others, name), depth + 1) for name in sorted(required))

    def _types(self, parts: Sequence[Schema]) -> frozenset[str]:
        """Types that a value may have; an integer is a number too: "number" stands for those that are not."""
        types = TYPES
        for part in parts:
            if "type" in part:
                named = part["type"]
                types &= _widened([named] if isinstance(named, str) else named)
            for values in self._listed(part):
                types &= values.types
        return types

    def _values_apart(self, ones: Sequence[Schema], others: Sequence[Schema]) -> bool:
        lists, others_lists = ([v.texts for part in parts for v in self._listed(part)] for parts in (ones, others))
        for one, other in product(lists, others_lists):
            if not self._tired(min(len(one), len(other)) // _CHEAP) and one.isdisjoint(other):
                return True
        return False

    def _ranges_apart(self, ones: Sequence[Schema], others: Sequence[Schema]) -> bool:
        """Of numbers alone."""
        numbers = frozenset({"integer", "number"})
        if not (self._types(ones) <= numbers and self._types(others) <= numbers):
            return False
        return _below(ones, others) or _below(others, ones)

    def _listed(self, part: Schema) -> Sequence[_Values]:
        if "enum" not in part and "const" not in part:
            return ()
        if id(part) not in self._values:
            lists = [part[name] if name == "enum" else [part[name]] for name in ("enum", "const") if name in part]
            self._values[id(part)] = [_Values.of(values) for values in lists]
        return self._values[id(part)]

    def _tired(self, steps: int = 0) -> bool:
        self._left -= 1 + steps
        return self._left < self._least


def _widened(names: Sequence[str]) -> frozenset[str]:
    return frozenset([*names, "integer"]) if "number" in names else frozenset(names)


def _type_of(value: Any) -> frozenset[str]:
    if isinstance(value, bool):
        return frozenset(["boolean"])
    if isinstance(value, int | float):
        return frozenset(["integer", "number"])
    if isinstance(value, str):
        return frozenset(["string"])
    return frozenset(["array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"])


def _spelled(value: Any) -> str:
    """1 and 1.0 are one value, and true is not 1."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
