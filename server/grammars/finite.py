"""Definitions that no finite value satisfies (a list's item that must be such a list): an answer would never end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deltaserve.errors import BadRequest

_MOST_STEPS: Final = 500_000


def endless(definitions: Mapping[str, Any]) -> frozenset[str]:
    """Names of translated definitions, each of which needs itself. Raises BadRequest where that is long to say."""
    search = _Search()
    # Definitions come before those that they need: with the last one first, few rounds are enough.
    names, more = list(definitions)[::-1], True
    while more:
        waiting = [name for name in names if not search.ends(definitions[name], finds=name)]
        more, names = len(waiting) < len(names), waiting
    return frozenset(names)


@dataclass(slots=True)
class _Search:
    finite: set[str] = field(default_factory=set)
    steps: int = 0

    def ends(self, schema: Any, finds: str | None = None) -> bool:
        """Whether a value is known that ends; `finds`: the name of this definition, to be remembered then."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise BadRequest("the schema's definitions refer to each other in too many ways")
        found = self._ends(schema)
        if found and finds is not None:
            self.finite.add(finds)
        return found

    def _ends(self, schema: Any) -> bool:
        if not isinstance(schema, Mapping):
            return schema is not False
        choices = [schema[name] for name in ("anyOf", "oneOf") if name in schema]
        return (
            ("$ref" not in schema or schema["$ref"].rpartition("/")[2] in self.finite)
            and all(self.ends(part) for part in schema.get("allOf", ()))
            and all(any(self.ends(option) for option in options) for options in choices)
            and (schema.get("type") != "object" or self._members_end(schema))
            and (schema.get("type") != "array" or self._items_end(schema))
        )

    def _members_end(self, schema: Mapping[str, Any]) -> bool:
        properties = schema.get("properties", {})
        return all(self.ends(properties.get(name, True)) for name in schema.get("required", ()))

    def _items_end(self, schema: Mapping[str, Any]) -> bool:
        least = schema.get("minItems", 0)
        first = schema.get("prefixItems", ())[:least]
        return all(self.ends(item) for item in first) and (least <= len(first) or self.ends(schema.get("items", True)))
