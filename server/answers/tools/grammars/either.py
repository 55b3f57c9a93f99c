"""One grammar of two: an answer is held to either of them."""

import json
from typing import Any, Final

_START: Final = "start: @answer_0 | @calls_0"


def either(answer: str, calls: str) -> str:
    """As llguidance serialises grammars: Lark text, or JSON with a list of them whose first one begins."""
    return json.dumps({"grammars": [{"lark_grammar": _START}, *_named(answer, "answer"), *_named(calls, "calls")]})


def around(answer: str, lark: str) -> str:
    """Lark text that refers to another grammar as `@answer_0`."""
    return json.dumps({"grammars": [{"lark_grammar": lark}, *_named(answer, "answer")]})


def schema_of(grammar: str) -> dict[str, Any] | None:
    """The JSON Schema that is the whole of this grammar; None for any other."""
    named = _named(grammar, "answer")
    return named[0].get("json_schema") if len(named) == 1 else None


def _named(grammar: str, name: str) -> list[dict[str, Any]]:
    """The first one, which begins, gets a name; the names of others stay."""
    if not grammar.lstrip().startswith("{"):
        return [{"name": f"{name}_0", "lark_grammar": grammar}]
    first, *others = json.loads(grammar)["grammars"]
    return [{**first, "name": f"{name}_0"}, *others]
