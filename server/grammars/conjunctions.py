"""How many patterns one text must match at once. llguidance looks at every way to do so: twice as many with each one.

Twenty-eight short ones take minutes and gigabytes. They need not stand together: `allOf` joins what its schemas say of
the same property, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.document import refused

MOST: Final = 12
_PATTERNS: Final = ("pattern", "format", "minLength", "maxLength")
_DEEPEST: Final = 64
_MOST_STEPS: Final = 200_000

Schema = Mapping[str, Any]
Path = tuple[
    str, ...
]  # of properties' names; the two others are no names of a schema's: they are longer than those cut
_OTHERS: Final = "\0others"
_ITEMS: Final = "\0items"


def refuse_many(places: Sequence[tuple[str, Schema]], definitions: Mapping[str, Any]) -> None:
    """Raises BadRequest with the place where more than MOST patterns must hold together. All schemas are translated."""
    if sum(name in schema for _, schema in places for name in _PATTERNS) <= MOST:
        return
    counting = _Counting(definitions)
    for place, schema in places:
        if counting.more_than_most(schema):
            raise refused(place, f"more than {MOST} patterns, formats and lengths must hold together of one text")


@dataclass(slots=True)
class _Counting:
    definitions: Mapping[str, Any]
    steps: int = 0
    known: dict[tuple[int, Path], int] = field(default_factory=dict)

    def more_than_most(self, schema: Schema) -> bool:
        """Whether this is so anywhere in what `schema` says, where several schemas speak of it."""
        waiting: list[tuple[Path, list[Schema]]] = [((), self._together([schema]))]
        seen: set[frozenset[int]] = set()
        while waiting:
            path, together = waiting.pop()
            if len(together) < 2 or (same := frozenset(map(id, together))) in seen:
                continue  # what speaks alone is looked at by itself
            seen.add(same)
            if self._count(schema, path) > MOST:
                return True
            for step in dict.fromkeys(name for part in together for name in _steps(part)):
                members = [member for part in together for some in _members(part, step) for member in some]
                waiting.append(((*path, step), self._together(members) if len(members) > 1 else []))
        return False

    def _together(self, schemas: Sequence[Any]) -> list[Schema]:
        """These, and all that they say of the same value, each once."""
        found: dict[int, Schema] = {}
        waiting = [schema for schema in schemas if isinstance(schema, Mapping)]
        while waiting:
            self._step()
            schema = waiting.pop()
            if id(schema) not in found:
                found[id(schema)] = schema
                more = [*self._parts(schema), *(option for options in _choices(schema) for option in options)]
                waiting += [part for part in more if isinstance(part, Mapping)]
        return list(found.values())

    def _count(self, schema: Any, path: Path, depth: int = 0) -> int:
        """Patterns that `schema` has for the value at `path`; of a choice's options the one with most."""
        if not isinstance(schema, Mapping):
            return 0
        key = (id(schema), path)
        if key not in self.known:
            self._step(depth)
            self.known[key] = 0  # one that leads to itself says nothing more there
            own = self._own(schema, path, depth)
            parts = sum(self._count(part, path, depth + 1) for part in self._parts(schema))
            options = (max(self._count(o, path, depth + 1) for o in options) for options in _choices(schema))
            self.known[key] = own + parts + sum(options)
        return self.known[key]

    def _own(self, schema: Schema, path: Path, depth: int) -> int:
        if not path:
            return sum(name in schema for name in _PATTERNS)
        named, others = _members(schema, path[0])
        counts = ([self._count(one, path[1:], depth + 1) for one in some] for some in (named, others))
        return sum(max(found, default=0) for found in counts)

    def _parts(self, schema: Schema) -> Iterator[Any]:
        if "$ref" in schema:
            yield self.definitions.get(schema["$ref"].rpartition("/")[2])
        yield from schema.get("allOf", ())

    def _step(self, depth: int = 0) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS or depth > _DEEPEST:
            raise BadRequest("too many of the schema's parts must hold together")


def _choices(schema: Schema) -> list[Sequence[Any]]:
    return [schema[name] for name in ("anyOf", "oneOf") if name in schema]


def _steps(schema: Schema) -> Iterator[str]:
    yield from schema.get("properties", ())
    if "patternProperties" in schema or isinstance(schema.get("additionalProperties"), Mapping):
        yield _OTHERS
    if "items" in schema or "prefixItems" in schema:
        yield _ITEMS


def _members(schema: Schema, step: str) -> tuple[list[Any], list[Any]]:
    """What is said of a member: one of the first schemas holds, and one of the others, where there are any."""
    if step == _ITEMS:
        return [*schema.get("prefixItems", ()), schema.get("items")], []
    named = schema.get("properties", {})
    patterns = list(schema.get("patternProperties", {}).values())
    return ([named[step]], patterns) if step in named else ([], [*patterns, schema.get("additionalProperties")])
