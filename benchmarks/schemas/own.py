"""200 schemas that look like real ones: tool calls, invoices, settings, forms, labels, tables, unions, trees, texts …

Drawn from a library of members with a fixed seed, so that everybody gets the same ones.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

Schema = dict[str, Any]

SEED: Final = 26
OF_EACH: Final = 20

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}

MEMBERS: Final[dict[str, Schema]] = {
    "id": {"type": "string", "format": "uuid"},
    "name": {"type": "string", "minLength": 1, "maxLength": 40},
    "title": {"type": "string", "maxLength": 60, "description": "shown above the text"},
    "email": {"type": "string", "format": "email", "maxLength": 40},
    "phone": {"type": "string", "pattern": r"^\+[1-9][0-9]{6,13}$"},
    "url": {"type": "string", "format": "uri", "pattern": "^https://", "maxLength": 60},
    "created": {"type": "string", "format": "date-time"},
    "due": {"type": "string", "format": "date"},
    "starts": {"type": "string", "format": "time"},
    "ttl": {"type": "string", "format": "duration"},
    "host": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "hostname", "maxLength": 30}]},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "price": {"type": "number", "minimum": 0, "exclusiveMaximum": 100000, "multipleOf": 0.01},
    "amount": {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6},
    "discount": {"type": "number", "minimum": 0, "maximum": 1},
    "quantity": {"type": "integer", "minimum": 1, "maximum": 999},
    "version": {"type": "string", "pattern": r"^\d{1,3}\.\d{1,3}\.\d{1,3}(-[a-z0-9]{1,8})?$"},
    "sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
    "iban": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,20}$"},
    "currency": {"enum": ["EUR", "USD", "GBP", "JPY", "CHF"]},
    "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
    "status": {"type": "string", "enum": ["open", "in progress", "done", "won't do"]},
    "priority": {"type": "integer", "enum": [1, 2, 3, 5, 8]},
    "severity": {"enum": ["low", "medium", "high", "critical", None]},
    "enabled": _FLAG,
    "retries": {"type": "integer", "minimum": 0, "maximum": 10, "default": 3},
    "timeout_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 600},
    "tags": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 12}, "maxItems": 4},
    "scores": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 1, "maxItems": 5},
    "position": {
        "type": "array", "minItems": 2,
        "prefixItems": [{"type": "number", "minimum": -90, "maximum": 90}] * 2, "items": False,
    },
    "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 12}, "maxProperties": 3},
    "limits": {"type": "object", "patternProperties": {"^x-[a-z]{1,5}$": _COUNT}, "additionalProperties": False},
    "note": {"type": ["string", "null"], "maxLength": 50},
    "parent": {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}], "default": None},
    "size": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 64}, {"enum": ["small", "large"]}]},
    "color": {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"},
    "language": {"const": "en"},
    "big": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float32": {"type": "number", "format": "float", "minimum": -1000, "maximum": 1000},
}  # fmt: skip
ADDRESS: Final[Schema] = {
    "type": "object",
    "properties": {
        "street": {"type": "string", "maxLength": 30},
        "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
        "city": {"type": "string", "maxLength": 20},
        "country": MEMBERS["country"],
    },
    "required": ["street", "city"],
    "additionalProperties": False,
}


def own_schemas() -> list[tuple[str, Schema]]:
    """Name and schema of each."""
    rng, seen, schemas = Random(SEED), set[str](), []
    for kind, make in KINDS.items():
        for i in range(OF_EACH):
            schema = make(rng, i)
            while json.dumps(schema) in seen:
                schema = make(rng, i)
            seen.add(json.dumps(schema))
            schemas.append((f"{kind}-{i:02}", schema))
    return schemas


def _some(rng: Random, least: int, most: int, among: Sequence[str] = tuple(MEMBERS)) -> dict[str, Schema]:
    return {name: MEMBERS[name] for name in rng.sample(among, rng.randint(least, most))}


def _object(rng: Random, members: dict[str, Schema], **other: Any) -> Schema:
    """Closed and all required as OpenAI's strict mode wants it, or open, or in between."""
    names, form = list(members), rng.randrange(3)
    required = names if form == 0 else rng.sample(names, rng.randint(1, len(names)))
    schema = {"type": "object", "properties": members, "required": required, **other}
    return schema if form == 2 else {**schema, "additionalProperties": False}


def _tool_call(rng: Random, i: int) -> Schema:
    """Arguments of a function, or the call with its name."""
    arguments = _object(rng, _some(rng, 1, 5))
    if i % 2:
        return arguments
    name = {"const": rng.choice(["get_weather", "search", "create_event", "send_mail"])}
    return _object(rng, {"name": name, "arguments": arguments}, title="call")


def _invoice(rng: Random, _: int) -> Schema:
    item = {"sku": MEMBERS["sku"], "quantity": MEMBERS["quantity"], "price": MEMBERS["price"]}
    lines = {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1, "maxItems": 3}
    members = {"number": {"type": "string", "pattern": "^INV-[0-9]{6}$"}, "due": MEMBERS["due"], "lines": lines}
    members |= {"buyer": {"$ref": "#/$defs/address"}} | _some(rng, 0, 3, ["currency", "discount", "iban", "note"])
    return _object(rng, members, **{"$defs": {"line": _object(rng, item), "address": ADDRESS}})


def _settings(rng: Random, _: int) -> Schema:
    """A program's, as draft 7 writes it."""
    network = _object(rng, _some(rng, 1, 4, ["host", "port", "timeout_s", "retries", "enabled", "url"]))
    level = {"type": "string", "enum": ["debug", "info", "warning", "error"]}
    members = {"version": MEMBERS["version"], "log": level, "network": {"$ref": "#/definitions/network"}}
    members |= _some(rng, 1, 3, ["labels", "limits", "ttl", "tags", "big"])
    draft = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"network": network}}
    return _object(rng, members, **draft)


def _form(rng: Random, _: int) -> Schema:
    person = _some(rng, 2, 5, ["name", "email", "phone", "country", "note", "url"])
    members = {"person": _object(rng, person), "address": ADDRESS, "accepts": {"const": True}}
    return _object(rng, members | _some(rng, 1, 3, ["due", "starts", "size", "color", "tags"]))


def _label(rng: Random, i: int) -> Schema:
    """A classification, with a reason or a probability."""
    words = [
        "positive",
        "negative",
        "neutral",
        "spam",
        "not spam",
        "billing",
        "shipping",
        "sonstiges",
        "その他",
        'é"\\',
    ]
    one = {"type": "string", "enum": rng.sample(words, rng.randint(2, 8))}
    if i % 4 == 0:
        return one
    many: Schema = {"type": "array", "items": one, "minItems": 1, "maxItems": 3}
    members = {"label": one if i % 2 else many, "confidence": MEMBERS["discount"]}
    return _object(rng, members | ({"reason": {"type": "string", "maxLength": 60}} if i % 3 else {}))


def _table(rng: Random, i: int) -> Schema:
    """Rows in rows."""
    cell: Schema = {
        "anyOf": [{"type": "number", "minimum": 0, "maximum": rng.randint(1, 9999)}, {"type": "null"}, _FLAG]
    }
    rows: Schema = {
        "type": "array",
        "items": {"type": "array", "items": cell, "minItems": 1, "maxItems": 3},
        "maxItems": 3,
    }
    if i % 3 == 0:
        return rows
    records = {"type": "array", "items": _object(rng, _some(rng, 1, 3)), "minItems": 1, "maxItems": 2}
    columns = {"type": "array", "items": {"type": "string", "pattern": "^[a-z_]{1,12}$"}, "maxItems": 3}
    return _object(rng, {"columns": columns, "rows": rows if i % 2 else records})


def _union(rng: Random, i: int) -> Schema:
    """As pydantic writes a union with a discriminator, or without one."""
    kinds = rng.sample(["card", "transfer", "cash", "voucher"], rng.randint(2, 4))
    defs = {k: _object(rng, {"kind": {"const": k, "type": "string"}} | _some(rng, 1, 3)) for k in kinds}
    for schema in defs.values():
        schema["required"] = sorted({"kind", *schema["required"]})
    options = [{"$ref": f"#/$defs/{kind}"} for kind in kinds]
    mapping = {"discriminator": {"propertyName": "kind", "mapping": {k: f"#/$defs/{k}" for k in kinds}}}
    union: Schema = {"anyOf": options} if i % 2 else {"oneOf": options, **mapping}
    if i % 3 == 0:
        return {**union, "$defs": defs}
    return _object(rng, {"payment": union, "amount": MEMBERS["amount"]}, **{"$defs": defs})


def _tree(rng: Random, i: int) -> Schema:
    """Schemas that refer to themselves."""
    children = {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}
    node = _object(rng, _some(rng, 1, 2) | {"children": children})
    node["required"] = [name for name in node["required"] if name != "children"]
    if i % 2:
        return {"$ref": "#/$defs/node", "$defs": {"node": node}}
    expression: Schema = {
        "anyOf": [
            {"type": "integer", "minimum": -99, "maximum": 99},
            _object(
                rng, {"op": {"enum": ["+", "-", "*"]}, "left": {"$ref": "#/$defs/e"}, "right": {"$ref": "#/$defs/e"}}
            ),
        ]
    }
    return {"type": "object", "properties": {"e": {"$ref": "#/$defs/e"}}, "required": ["e"], "$defs": {"e": expression}}


def _texts(rng: Random, i: int) -> Schema:
    """Patterns, formats and lengths; on their own too."""
    names = [name for name, schema in MEMBERS.items() if schema.get("type") == "string"]
    if i % 4 == 0:
        return MEMBERS[rng.choice(names)]
    members = _some(rng, 2, 5, names)
    return _object(rng, members, allOf=[{"required": [rng.choice(list(members))]}, {"minProperties": 1}])


def _numbers(rng: Random, i: int) -> Schema:
    low = rng.randint(-1000, 900)
    bounds = {"minimum": low, "maximum": low + rng.randint(1, 100)}
    whole, real = {"type": "integer", **bounds}, {"type": "number", **bounds}
    stepped = {"type": "number", "minimum": 0, "maximum": 10, "multipleOf": rng.choice([0.5, 0.25, 0.1, 2])}
    if i % 4 == 0:
        return rng.choice([whole, real, stepped])
    names = ["price", "amount", "port", "big", "float32", "scores", "position"]
    return _object(rng, {"whole": whole, "real": real, "stepped": stepped} | _some(rng, 1, 2, names))


KINDS: Final[dict[str, Callable[[Random, int], Schema]]] = {
    "tool call": _tool_call,
    "invoice": _invoice,
    "settings": _settings,
    "form": _form,
    "label": _label,
    "table": _table,
    "union": _union,
    "tree": _tree,
    "texts": _texts,
    "numbers": _numbers,
}
