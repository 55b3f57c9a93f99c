"""JSON in which no object says the same thing twice: the fast parser keeps the last of two equal names without a word.

What was lost is missing when the value is written again, which costs a part of what a parser does that looks at pairs.
"""

import json
import re
from typing import Any, Final

import orjson

from deltaserve.errors import MalformedTopK

# What makes counting unsure: space before a colon; ASCII written as a number, which may be a quote or a colon.
_LOOSE: Final = re.compile(rb'"[ \t\r\n]+:')
_ESCAPED: Final = re.compile(rb"\\u00[2-7]")


def parsed(payload: bytes) -> Any:
    """The value. Raises ValueError where it is no JSON, or deeper than is read; MalformedTopK for a repeated name."""
    value = orjson.loads(payload)
    try:
        again = orjson.dumps(value)
        if again != payload and not _as_many_names(payload, again):
            json.loads(payload, object_pairs_hook=_distinct)
    except (TypeError, RecursionError):  # the parsers and the writer go to different depths
        raise ValueError("The upstream's JSON is nested too deeply.") from None
    return value


def _as_many_names(payload: bytes, again: bytes) -> bool:
    """Whether no name was lost, as far as counting tells: spaces and the way figures are written are no loss.

    A quote before a colon ends a name, or is part of a string that has it in both.
    """
    if _LOOSE.search(payload) or _ESCAPED.search(payload):
        return False
    return payload.count(b'":') == again.count(b'":')


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedTopK("The upstream's JSON names the same thing twice in one object.")
    return value
