"""From JSON Schema to a grammar."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llguidance import LLMatcher

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.translating import Schema, Translated, translated

# Between two parts of a JSON text, at most once: a space, or a new line and its indent. A model that may write
# white space without end may never write anything else.
WHITESPACE: Final = r"[ ]|\r?\n[ \t]{0,32}"
MAX_SCHEMA: Final = 1_000_000  # characters of a schema as JSON

_SAID: Final[Mapping[str, str]] = {
    "oneOf constraints are not supported": "`oneOf`: a value may satisfy two of its options, which a grammar cannot "
    "exclude; use `anyOf`, or give the options a property that tells them apart",
    "min/maxProperties only supported": "`minProperties` and `maxProperties` are taken where all of `properties` are "
    "in `required`",
    "are not disjoint": "`patternProperties`: a name may match two of its patterns, which a grammar cannot follow",
}
_LOCATING_S: Final = 1.0  # how long the place of a fault is looked for


@dataclass(frozen=True, slots=True)
class Spacing:
    """White space in a JSON text, and whether objects have only the properties that are named."""

    pattern: str | None = WHITESPACE  # None: no white space
    closed: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """As llguidance calls them."""
        if self.pattern is None:
            return {"whitespace_flexible": False}
        return {"whitespace_pattern": self.pattern}


@dataclass(frozen=True, slots=True)
class JsonGrammar:
    """A schema's grammar, as llguidance serialises it."""

    schema: Translated
    spacing: Spacing = field(default_factory=Spacing)

    @property
    def text(self) -> str:
        return _grammar(self.schema.schema, self.spacing)

    @property
    def embedded(self) -> str:
        """The same as part of a Lark grammar."""
        return "%json " + json.dumps({**self.schema.schema, "x-guidance": self.spacing.options})

    def explained(self, fault: str) -> str:
        """What llguidance says of this grammar, in our words where we have better ones, and where the fault is."""
        place = self._place_of(fault)
        said = next((ours for theirs, ours in _SAID.items() if theirs in fault), fault)
        return said if place is None else f"{said} (at {place})"

    def _place_of(self, fault: str) -> str | None:
        """The innermost schema that has this fault in llguidance's eyes; None where it was not found in time."""
        end = time.monotonic() + _LOCATING_S
        for place, schema in self.schema.places:
            if time.monotonic() > end:
                return None
            alone = {**schema, "$defs": self.schema.definitions} if self.schema.definitions else schema
            _, faults = LLMatcher.validate_grammar_with_warnings(_grammar(alone, self.spacing))
            if faults and _line(faults[0]) in fault:
                return place
        return None


def json_grammar(schema: Any, spacing: Spacing = Spacing()) -> JsonGrammar:
    """Raises BadRequest naming the keyword and its place."""
    if len(json.dumps(schema)) > MAX_SCHEMA:
        raise BadRequest(f"the schema has more than {MAX_SCHEMA:,} characters")
    return JsonGrammar(translated(schema, closed=spacing.closed), spacing)


def any_object(spacing: Spacing = Spacing()) -> JsonGrammar:
    """Any JSON object."""
    return json_grammar({"type": "object"}, spacing)


def _grammar(schema: Schema, spacing: Spacing) -> str:
    options: Mapping[str, Any] = spacing.options
    return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)  # type: ignore[arg-type]


def _line(fault: str) -> str:
    return " ".join(fault.split())[:200]
