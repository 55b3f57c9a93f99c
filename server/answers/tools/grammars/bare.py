"""Values as Gemma writes them: keys bare and in the order of the alphabet, strings between a mark of their own."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.tools.grammars.lark import json_rule, literal, mark
from deltaserve.server.answers.tools.grammars.well_formed import refuse_malformed, required_of
from deltaserve.server.answers.tools.grammars.written import Rules, in_order, listed
from deltaserve.server.answers.tools.protocol import Tool
from deltaserve.server.answers.tools.reading.typed import resolved, types_of

_DEEPEST: Final = 12  # values in values; a schema that refers to itself has no end
_ANY: Final = ("string", "number", "boolean", "null")


def bare_object(rules: Rules, tool: Tool, quote: str, special: Mapping[str, int]) -> str:
    """The tool's arguments in braces. Raises `BadRequest` where the schema is nested too deeply, or is none."""
    refuse_malformed(tool)
    root = tool.parameters or {}
    return _Bare(rules, tool, quote, special).object(root, 0)


class _Bare:
    def __init__(self, rules: Rules, tool: Tool, quote: str, special: Mapping[str, int]) -> None:
        self._rules, self._quote, self._special = rules, quote, special
        self._root, self._strict = tool.parameters or {}, tool.strict
        self._rule_of: dict[int, tuple[Any, str]] = {}  # by the schema's id: the schema, which keeps it, and its rule

    def value(self, schema: Any, depth: int) -> str:
        """The name of a rule; what several `$ref`s name is written once."""
        if depth > _DEEPEST:
            raise BadRequest("A tool's parameters are nested too deeply for this model's format.", param="tools")
        schema = resolved(schema, self._root)
        if id(schema) not in self._rule_of:
            self._rule_of[id(schema)] = schema, self._rule(schema, depth)
        return self._rule_of[id(schema)][1]

    def _rule(self, schema: Mapping[str, Any], depth: int) -> str:
        if (values := listed(schema)) is not None:
            return self._rules.any_of([self._written(one) for one in values])
        options = schema.get("anyOf") or schema.get("oneOf")
        if options and "type" not in schema:
            return self._rules.any_of([self.value(one, depth + 1) for one in options])
        kinds = sorted(types_of(schema, self._root)) or _ANY
        return self._rules.any_of([self._kind(kind, schema, depth) for kind in kinds])

    def _kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> str:
        match kind:
            case "string":
                return self._string(schema)
            case "boolean":
                return '"true" | "false"'
            case "null":
                return '"null"'
            case "array":
                return self._array(schema, depth)
            case "object":
                return self.object(schema, depth)
        return json_rule({**schema, "type": kind}, strict=self._strict)

    def _string(self, schema: Mapping[str, Any]) -> str:
        quote = mark(self._quote, self._special)
        if self._quote in self._special:
            return f"{quote} {self._rules.text_before(schema, self._quote)} {quote}"
        return f"{quote} {self._rules.text(schema, self._quote)}"

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[" "]"'
        item = self.value(schema.get("items", {}), depth + 1)
        more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        return f'"[" {item} {more} "]"' if least else f'"[" ({item} {more})? "]"'

    def object(self, schema: Mapping[str, Any], depth: int) -> str:
        properties, required = schema.get("properties") or {}, required_of(schema)
        keys = sorted({*properties, *required})
        items = [
            (f"{literal(key + ':')} {self.value(properties.get(key, {}), depth + 1)}", key in required) for key in keys
        ]
        return f'"{{" {in_order(self._rules, items, ",")} "}}"'

    def _written(self, value: Any) -> str:
        if isinstance(value, str):
            quote = mark(self._quote, self._special)
            return f"{quote} {literal(value)} {quote}" if value else f"{quote} {quote}"
        if isinstance(value, list):
            return " ".join(['"["', *_between([self._written(one) for one in value]), '"]"'])
        if isinstance(value, dict):
            members = [f"{literal(f'{key}:')} {self._written(one)}" for key, one in sorted(value.items())]
            return " ".join(['"{"', *_between(members), '"}"'])
        return literal(json.dumps(value))


def _between(items: Sequence[str]) -> list[str]:
    return [part for n, item in enumerate(items) for part in (['","', item] if n else [item])]
