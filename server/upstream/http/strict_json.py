"""JSON in which no object says the same thing twice: the fast parser keeps the last of two equal names without a word.

What was lost is missing when the value is written again, which costs a part of what a parser does that looks at pairs.
"""

import json
from typing import Any

import orjson

from deltaserve.errors import MalformedTopK


def parsed(payload: bytes) -> Any:
    """The value. Raises ValueError where it is no JSON, MalformedTopK where an object repeats a name."""
    value = orjson.loads(payload)
    again = orjson.dumps(value)
    # Other spaces, figures or escapes are no loss; where the number of names is another, the careful parser decides.
    if len(again) != len(payload) and again.count(b'":') != payload.count(b'":'):
        json.loads(payload, object_pairs_hook=_distinct)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedTopK("The upstream's JSON names the same thing twice in one object.")
    return value
