"""Schemas of tools whose arguments are not written as JSON: what is read of them has the form that it must have."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.tools.protocol import Tool
from deltaserve.server.answers.tools.reading.typed import resolved


def _schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool | None)


def _schemas_by_name(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and all(map(_schema, value.values())))


def _schemas(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_schema, value)))


def _strings(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _required(value: Any) -> bool:
    """Old schemas say of a property itself that it is required: that is passed over."""
    return isinstance(value, bool) or _strings(value)


def _items(value: Any) -> bool:
    """Old schemas have a list of them, one for each place: that is passed over."""
    return isinstance(value, list) or _schema(value)


def required_of(schema: Mapping[str, Any]) -> list[str]:
    """The properties that are required."""
    names = schema.get("required")
    return names if isinstance(names, list) else []


def _type(value: Any) -> bool:
    return isinstance(value, str) or _strings(value)


def _values(value: Any) -> bool:
    return value is None or (isinstance(value, list) and bool(value))


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_FORMS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "type": (_type, "the name of a type, or a list of them"),
    "enum": (_values, "a list of one value or more"),
    "properties": (_schemas_by_name, "an object of schemas"),
    "required": (_required, "a list of names"),
    "items": (_items, "a schema"),
    "anyOf": (_schemas, "a list of schemas"),
    "oneOf": (_schemas, "a list of schemas"),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), (_number, "a whole number, 0 or more")),
}


def refuse_malformed(tool: Tool) -> None:
    """Raises `BadRequest` naming the keyword."""
    root = tool.parameters or {}
    waiting, seen = [resolved(root, root)], set[int]()
    while waiting:
        schema = waiting.pop()
        if id(schema) in seen:
            continue
        seen.add(id(schema))
        for keyword in schema.keys() & _FORMS.keys():
            has_form, form = _FORMS[keyword]
            if not has_form(schema[keyword]):
                raise BadRequest(
                    f"The parameters of the tool `{tool.name}`: `{keyword}` must be {form}.", param="tools"
                )
        waiting += (resolved(one, root) for one in _inside(schema))


def _inside(schema: Mapping[str, Any]) -> Iterator[Any]:
    yield from (schema.get("properties") or {}).values()
    yield schema.get("items")
    yield from schema.get("anyOf") or ()
    yield from schema.get("oneOf") or ()
