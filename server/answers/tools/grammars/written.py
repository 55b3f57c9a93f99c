"""Arguments that are not written as JSON: what stands for each parameter, by its schema.

Strings that are written without quotes keep to `enum`, `const` and their lengths; `pattern` and `format` hold where a
value is written as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deltaserve.server.answers.tools.grammars.lark import ANY_TEXT, json_rule, literal
from deltaserve.server.answers.tools.grammars.well_formed import refuse_malformed, required_of
from deltaserve.server.answers.tools.protocol import Tool
from deltaserve.server.answers.tools.reading.typed import resolved, types_of

XML_END = "\n</parameter>\n"


@dataclass(slots=True)
class Rules:
    """Rules that a grammar needs beside its own."""

    lines: list[str] = field(default_factory=list)

    def add(self, body: str, options: str = "") -> str:
        """The name of a new rule."""
        name = f"part_{len(self.lines)}"
        self.lines.append(f"{name}{options}: {body}")
        return name

    def any_of(self, options: Sequence[str]) -> str:
        return self.add(" | ".join(options))

    def text(self, schema: Mapping[str, Any], end: str) -> str:
        """Text of this schema's length, up to the first `end`, which belongs to it."""
        return self.add(self.text_before(schema, end), f"[suffix={literal(end)}]")

    def text_before(self, schema: Mapping[str, Any], end: str) -> str:
        """The same without its end. Text of some length must be kept from going on behind a first `end`."""
        text = text_regex(schema)
        if not schema.get("minLength"):
            return text
        name = f"PART_{len(self.lines)}"
        self.lines.append(f"{name}: {text} & ~({ANY_TEXT} {literal(end)} {ANY_TEXT})")
        return name


@dataclass(frozen=True, slots=True)
class Parameter:
    key: str
    schema: Mapping[str, Any]  # what a `$ref` names, and not the `$ref`
    root: Mapping[str, Any]  # where further `$ref`s look
    required: bool
    strict: bool

    @property
    def types(self) -> frozenset[str]:
        return types_of(self.schema, self.root)

    @property
    def values(self) -> Sequence[Any] | None:
        """All values that it may have, where the schema lists them."""
        return listed(self.schema)

    @property
    def as_json(self) -> str:
        """A rule for the value as JSON, with the definitions that it may refer to."""
        named = {key: self.root[key] for key in ("$defs", "definitions") if key in self.root}
        return json_rule({**self.schema, **named}, strict=self.strict)


def listed(schema: Mapping[str, Any]) -> Sequence[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def parameters(tool: Tool) -> list[Parameter]:
    """In the schema's order; required ones that it does not describe come last."""
    root = tool.parameters or {}
    properties = root.get("properties") or {}
    required = required_of(root)
    keys = [*properties, *(key for key in required if key not in properties)]
    return [Parameter(key, resolved(properties.get(key, {}), root), root, key in required, tool.strict) for key in keys]


def text_regex(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if not least and most is None:
        return ANY_TEXT
    return rf"/(.|\n){{{least},{'' if most is None else most}}}/"


def in_order(rules: Rules, items: Sequence[tuple[str, bool]], separator: str) -> str:
    """The items in this order; those that are not required may be left out. Empty where there are none."""
    between, following = literal(separator), ""
    beginnings: list[str] = []
    for text, required in reversed(items):
        one = rules.add(text)
        first, more = f"{one} {following}", f"{between} {one}"
        beginnings = [first] if required else [first, *beginnings]
        following = rules.add(f"{more if required else f'({more})?'} {following}")
    optional = not any(required for _, required in items)
    return f"({rules.any_of(beginnings)}){'?' if optional else ''}" if beginnings else ""


def xml_parameters(rules: Rules, tool: Tool) -> str:
    """`<parameter=key>`, the value, `</parameter>`, each on lines of their own. Raises `BadRequest`."""
    refuse_malformed(tool)
    if tool.parameters and "properties" not in tool.parameters:
        value = rules.text({}, XML_END)
        return f"({literal('<parameter=')} /[^>\\s]+/ {literal('>' + chr(10))} {value})*"
    written = [(_xml_parameter(rules, one), one.required) for one in parameters(tool)]
    return " ".join(text if required else f"({text})?" for text, required in written)


def _xml_parameter(rules: Rules, one: Parameter) -> str:
    head = literal(f"<parameter={one.key}>\n")
    if one.values is not None:
        written = [value if isinstance(value, str) else json.dumps(value) for value in one.values]
        return f"{head} {rules.any_of([literal(text + XML_END) for text in written])}"
    if "string" in one.types:
        return f"{head} {rules.text(one.schema, XML_END)}"
    return f"{head} {one.as_json} {literal(XML_END)}"


def python_parameters(rules: Rules, tool: Tool) -> str:
    """`key=value, …`; values are JSON, but for Python's constants. Raises `BadRequest`."""
    refuse_malformed(tool)
    written = [(f"{literal(one.key + '=')} {_python_value(one)}", one.required) for one in parameters(tool)]
    return in_order(rules, written, ", ")


def _python_value(one: Parameter) -> str:
    if one.values is None and one.types == frozenset({"boolean"}):
        return '("True" | "False")'
    return '"None"' if one.types == frozenset({"null"}) else one.as_json
