"""The client's schema as a document: what a `$ref` leads to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.keywords import DRAFTS

_NO_SCHEMAS: Final = frozenset({"enum", "const", "default", "examples"})
_NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_NOTHING: Final = object()
_LONGEST_STEP: Final = 80  # characters of a place's step: a place is kept for every schema


@dataclass(frozen=True)
class Document:
    root: Any

    def check_draft(self) -> None:
        """Raises BadRequest where `$schema` names something unknown."""
        draft = self.root.get("$schema") if isinstance(self.root, dict) else None
        if draft is None:
            return
        name = draft.partition("://")[2].removesuffix("#") if isinstance(draft, str) else ""
        if name not in DRAFTS:
            raise refused("#/$schema", "the drafts 4, 6, 7, 2019-09 and 2020-12 are known, and no other")

    def resolved(self, reference: str, place: str) -> tuple[str, Any]:
        """Place and schema of what `reference`, which stands at `place`, leads to. Raises BadRequest."""
        document, _, fragment = reference.partition("#")
        own = self.root.get("$id", self.root.get("id")) if isinstance(self.root, dict) else None
        if document and document != (own.rstrip("#") if isinstance(own, str) else None):
            raise refused(place, "it leads to another document; only places in the schema itself can be looked up")
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._anchored(fragment, place)
        found = self.root
        for step in fragment.split("/")[1:]:
            found = _step(found, step.replace("~1", "/").replace("~0", "~"))
            if found is _NOTHING:
                raise refused(place, "there is nothing at the place that it names")
        return f"#{fragment}", found

    def _anchored(self, anchor: str, place: str) -> tuple[str, Any]:
        if anchor not in self._anchors:
            raise refused(place, "no `$anchor` of this name is in the schema")
        return f"#{anchor}", self._anchors[anchor]

    @cached_property
    def _anchors(self) -> Mapping[str, Any]:
        """The schema of each anchor, the first of a name: looked for once, however many `$ref` there are."""
        found: dict[str, Any] = {}
        for schema in _objects(self.root):
            for name in ("$anchor", "$id"):  # before 2019 an anchor was written as `"$id": "#name"`
                anchor = schema.get(name)
                if isinstance(anchor, str):
                    found.setdefault(anchor.removeprefix("#"), schema)
        return found


def escaped(step: object) -> str:
    """As a step of a JSON pointer, to be read in errors; a long one is cut."""
    return shortened(str(step)).replace("~", "~0").replace("/", "~1")


def shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_STEP else f"{text[:_LONGEST_STEP]}…"


def refused(place: str, why: str) -> BadRequest:
    """About the keyword at `place`, or the whole schema."""
    keyword = place.rpartition("/")[2]
    named = "the schema" if keyword == "#" else f"`{keyword}`"
    return BadRequest(f"{named} at {place}: {why}")


def _objects(value: Any, named: bool = False) -> Iterator[dict[str, Any]]:
    """Every object in the document that may be a schema; `named`: the keys are no keywords."""
    if isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if named or key not in _NO_SCHEMAS:
                yield from _objects(inner, not named and key in _NAMED_SCHEMAS)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _step(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, _NOTHING)
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return _NOTHING
