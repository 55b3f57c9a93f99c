"""One grammar of two: an answer is held to either of them."""

import json
from typing import Any, Final

_START: Final = "start: @answer_0 | @calls_0"


def either(answer: str, calls: str) -> str:
    """As llguidance serialises grammars: Lark text, or JSON with a list of them whose first one begins."""
    return json.dumps({"grammars": [{"lark_grammar": _START}, *_named(answer, "answer"), *_named(calls, "calls")]})


def _named(grammar: str, name: str) -> list[dict[str, Any]]:
    """The first one, which begins, gets a name; the names of others stay."""
    if not grammar.lstrip().startswith("{"):
        return [{"name": f"{name}_0", "lark_grammar": grammar}]
    first, *others = json.loads(grammar)["grammars"]
    return [{**first, "name": f"{name}_0"}, *others]
