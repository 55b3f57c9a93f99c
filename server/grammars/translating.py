"""A JSON Schema of any draft as one that llguidance takes and reads as it is meant.

A keyword that cannot be kept is refused, with its place.

What is left of a schema: no `$id`, no anchors, no unknown keywords; every `$ref` leads into `$defs`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.conjunctions import refuse_many
from deltaserve.server.grammars.disjoint import Proofs
from deltaserve.server.grammars.document import Document, escaped, refused, shortened
from deltaserve.server.grammars.finite import endless
from deltaserve.server.grammars.formats import ENFORCED, NOT_ENFORCED
from deltaserve.server.grammars.keywords import REFUSED
from deltaserve.server.grammars.patterns import literals
from deltaserve.server.grammars.values import CHECKED, bound, pattern

MAX_SCHEMAS: Final = 10_000  # in one schema, what `$ref` leads to counted once
MAX_PROPERTIES: Final = 1_000  # of an object: twice as many take four times as long, and these more than a second
MAX_OBJECTS_COST: Final = 2_000_000  # squares of the numbers of properties, added up: some seconds
_MOST_FOLLOWED: Final = 16  # `$ref` that lead to the next one
MAX_PATTERNS: Final = 64  # of `patternProperties`, each of which is compared with each other one

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Translated:
    """What llguidance is given, and from where in the client's schema each part of it came."""

    schema: Schema
    places: Sequence[tuple[str, Schema]]  # inner ones first

    @property
    def definitions(self) -> Schema:
        definitions: Schema = self.schema.get("$defs", {})
        return definitions


def translated(schema: Any, *, closed: bool = False) -> Translated:
    """`closed`: objects with `properties` have no others, unless they say so. Raises BadRequest."""
    return _Translation(Document(schema), closed).result()


@dataclass(slots=True)
class _Translation:
    document: Document
    closed: bool
    names: dict[str, str] = field(default_factory=dict)  # place of what a `$ref` leads to → its name in `$defs`
    waiting: list[tuple[str, Any, str]] = field(default_factory=list)  # name, schema, place
    places: list[tuple[str, Schema]] = field(default_factory=list)
    count: int = 0
    cost: int = 0

    def result(self) -> Translated:
        self.document.check_draft()
        whole = self.schema(self.document.root, "#")
        if whole is False:
            raise refused("#", "it is false, which no value satisfies")
        outer, self.places = self.places, []
        definitions: Schema = {}
        while self.waiting:
            name, schema, place = self.waiting.pop()
            definitions[name] = self.schema(schema, place)
        self.places += outer
        proofs = Proofs(definitions)
        for _, part in self.places:
            _loosen_one_of(part, proofs)
        self._refuse_endless(definitions)
        refuse_many(self.places, definitions)
        clean = {} if whole is True else whole
        return Translated({**clean, "$defs": definitions} if definitions else clean, self.places)

    def _refuse_endless(self, definitions: Schema) -> None:
        without_end = endless(definitions)
        for place, name in self.names.items():
            if name in without_end:
                raise refused(place, "each of its values would hold another one without end")

    def schema(self, schema: Any, place: str) -> Schema | bool:
        self.count += 1
        if self.count > MAX_SCHEMAS:
            raise BadRequest(f"the schema has more than {MAX_SCHEMAS:,} schemas in it")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise refused(place, "a schema must be an object, true or false")
        _refuse_keywords(schema, place)
        clean: Schema = {}
        for name, value in schema.items():
            at = _At(self, schema, clean, f"{place}/{escaped(name)}")
            if name in CHECKED:
                clean[name] = CHECKED[name](value, at.place)
            elif name in _TRANSLATIONS:
                _TRANSLATIONS[name](at, name, value)
        if self.closed and "properties" in clean:
            clean.setdefault("additionalProperties", False)
        _refuse_uncounted(clean, place)
        self.places.append((place, clean))
        return clean

    def name_of(self, reference: str, place: str) -> str:
        """The name in `$defs` of what a `$ref` leads to."""
        target, found = self.document.resolved(reference, place)
        if target not in self.names:
            self.names[target] = f"d{len(self.names)}"
            self.waiting.append((self.names[target], found, shortened(target)))
        return self.names[target]


@dataclass(frozen=True, slots=True)
class _At:
    """Where a keyword stands."""

    translation: _Translation
    source: Schema
    clean: Schema
    place: str

    def refused(self, why: str) -> BadRequest:
        return refused(self.place, why)

    def schema(self, value: Any, *steps: object) -> Schema | bool:
        return self.translation.schema(value, "/".join([self.place, *(escaped(step) for step in steps)]))

    def also(self, schema: Schema) -> None:
        """Another schema that must hold too."""
        self.clean["allOf"] = [*self.clean.get("allOf", ()), schema]


def _exclusive(at: _At, name: str, value: Any) -> None:
    """In draft 4 it is true or false, and speaks of the other bound."""
    if not isinstance(value, bool):
        at.clean[name] = bound(value, at.place)
    elif value and (other := at.source.get(name.removeprefix("exclusive").lower())) is not None:
        at.clean[name] = bound(other, at.place)


def _format(at: _At, name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise at.refused("it must be a string")
    if value in NOT_ENFORCED:
        raise at.refused(f"answers cannot be held to this format; those that they can be are {', '.join(ENFORCED)}")
    if value in ENFORCED:
        at.clean[name] = value
        added = ENFORCED[value]
        if added is not None:
            at.also({"pattern": added})


def _schema(at: _At, name: str, value: Any) -> None:
    at.clean[name] = at.schema(value)


def _items(at: _At, name: str, value: Any) -> None:
    if not isinstance(value, list):
        at.clean[name] = at.schema(value)
        return
    at.clean["prefixItems"] = [at.schema(item, i) for i, item in enumerate(value)]
    if "additionalItems" in at.source:
        rest = _At(at.translation, at.source, at.clean, at.place.rpartition("/")[0] + "/additionalItems")
        at.clean["items"] = rest.schema(at.source["additionalItems"])


def _schemas(at: _At, name: str, value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise at.refused("it must be a list of one schema or more")
    schemas = [at.schema(item, i) for i, item in enumerate(value)]
    at.clean[name] = [*at.clean.get(name, ()), *schemas] if name == "allOf" else schemas


def _properties(at: _At, _: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise at.refused("it must be an object of schemas")
    if len(value) > MAX_PROPERTIES:
        raise at.refused(f"it has {len(value):,} properties; at most {MAX_PROPERTIES:,} of an object are taken")
    at.translation.cost += len(value) ** 2
    if at.translation.cost > MAX_OBJECTS_COST:
        raise at.refused("with this object the schema has too many large ones to be compiled in time")
    for key, schema in value.items():
        _add_property(at, key, at.schema(schema, key))


def _add_property(at: _At, name: str, schema: Schema | bool) -> None:
    properties = at.clean.setdefault("properties", {})
    properties[name] = {"allOf": [properties[name], schema]} if name in properties else schema


def _pattern_properties(at: _At, name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise at.refused("it must be an object of schemas")
    if len(value) > MAX_PATTERNS:
        raise at.refused(f"it has {len(value):,} patterns; at most {MAX_PATTERNS} of an object are taken")
    for key, schema in value.items():
        names, clean = literals(key), at.schema(schema, key)
        if names is None:
            at.clean.setdefault(name, {})[pattern(key, f"{at.place}/{escaped(key)}")] = clean
        for one in names or ():  # once all of a pattern's names are there, the engine would still begin another one
            _add_property(at, one, clean)


def _reference(at: _At, name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise at.refused("it must be a string")
    at.clean[name] = f"#/$defs/{at.translation.name_of(value, at.place)}"


def _property_names(at: _At, _: str, value: Any) -> None:
    """Where no property is named: `patternProperties`, or the names themselves, say the same."""
    if value is True or (isinstance(value, dict) and value in ({}, {"type": "string"})):
        return
    if "properties" in at.source or "patternProperties" in at.source or "required" in at.source:
        raise at.refused("it is taken only where no property is named")
    names, further = _names(at, value), at.schema(at.source.get("additionalProperties", True))
    if isinstance(names, str):
        at.clean["patternProperties"] = {names: further}
    else:
        at.clean["properties"] = dict.fromkeys(names, further)
    at.clean["additionalProperties"] = False


def _names(at: _At, value: Any, followed: int = 0) -> str | list[str]:
    """The pattern of all names, or the names."""
    names = at.schema(value)
    said = {key: v for key, v in names.items() if key != "type"} if isinstance(names, dict) else {}
    if list(said) == ["$ref"] and followed < _MOST_FOLLOWED:
        return _names(at, at.translation.document.resolved(value["$ref"], at.place)[1], followed + 1)
    if list(said) == ["pattern"]:
        pattern = str(said["pattern"])
        return literals(pattern) or pattern
    listed = said.get("enum", [said["const"]] if "const" in said else None)
    if len(said) == 1 and listed and all(isinstance(n, str) for n in listed):
        return list(listed)
    raise at.refused("it may have a `pattern`, an `enum` or a `const` of strings, and nothing else")


def _additional(at: _At, name: str, value: Any) -> None:
    if "propertyNames" not in at.source or "additionalProperties" not in at.clean:
        at.clean[name] = at.schema(value)


def _constant(at: _At, name: str, value: Any) -> None:
    at.clean[name] = value


_TRANSLATIONS: Final[Mapping[str, Callable[[_At, str, Any], None]]] = {
    "const": _constant,
    "format": _format,
    "exclusiveMinimum": _exclusive,
    "exclusiveMaximum": _exclusive,
    "items": _items,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "$ref": _reference,
    "anyOf": _schemas,
    "allOf": _schemas,
    "oneOf": _schemas,
    "prefixItems": _schemas,
}


def _refuse_keywords(schema: Schema, place: str) -> None:
    for name, neutral in REFUSED.items():
        if name in schema and not any(schema[name] == ok and type(schema[name]) is type(ok) for ok in neutral):
            raise refused(f"{place}/{name}", "answers cannot be held to it")
    if place != "#" and isinstance(schema.get("$id"), str):
        raise refused(
            f"{place}/$id", "a schema of its own inside another one is not taken; refer to a place in `$defs`"
        )


def _refuse_uncounted(clean: Schema, place: str) -> None:
    """A further member may be repeated, which a grammar cannot see: it can count one more than the required ones."""
    least = clean.get("minProperties", 0)
    if least <= len(clean.get("required", ())):
        clean.pop("minProperties", None)
    elif least > len(clean.get("required", ())) + 1:
        raise refused(
            f"{place}/minProperties", "answers can be held to at most one property more than those in `required`"
        )


def _loosen_one_of(schema: Schema, proofs: Proofs) -> None:
    """`oneOf` becomes `anyOf`, in its place, where no value can satisfy two of its options."""
    if "oneOf" not in schema or not proofs.all_disjoint(schema["oneOf"]):
        return
    entries = list(schema.items())
    schema.clear()
    for name, value in entries:
        if name != "oneOf":
            schema[name] = [*schema.get("allOf", ()), *value] if name == "allOf" else value
        elif any(other == "anyOf" for other, _ in entries):
            schema["allOf"] = [*schema.get("allOf", ()), {"anyOf": value}]
        else:
            schema["anyOf"] = value
