"""A body's JSON, counted before it is parsed: what a parser would take long over, or trip over, is refused first.

Parsing time goes with the number of values, not of bytes; so does all that is done with them afterwards.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.api.requests.naming import quoted

MAX_FIELDS: Final = 128  # of the body itself; more than twice what any route knows
MAX_DEPTH: Final = 64
MAX_LITERAL: Final = 400  # characters of a number: the largest float written out has 309 digits
_SHARE_OF_STRINGS: Final = 8  # at most every so many-th value may be a string, with those that name a field
_SHARE_OF_CONTAINERS: Final = 8

_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_TO_COMMA: Final = bytes.maketrans(b"[]{}:", b",,,,,")
_HALF_PAIR: Final = re.compile(r"\\u[dD][89abcdefABCDEF]")


def parse(raw: bytes, max_values: int) -> Any:
    """The value that `raw` spells. Raises BadRequest for what is no JSON, or more of it than is accepted."""
    text = _decoded(raw)
    _refuse_costly(raw, max_values)
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:  # of what is not balanced: no outline tells its depth
        raise _too_deep() from None
    if _HALF_PAIR.search(text) is not None:
        _refuse_half_pairs(value)
    if isinstance(value, dict) and len(value) > MAX_FIELDS:
        raise BadRequest(f"The body has {len(value):,} fields; at most {MAX_FIELDS} are accepted.")
    return value


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8: send JSON text as UTF-8, without Content-Encoding.") from None


def _refuse_costly(raw: bytes, max_values: int) -> None:
    """Raises BadRequest for more values, strings, lists or objects, levels or digits than are accepted."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = unescaped.count(b'"') // 2
    _refuse_more(strings, max_values // _SHARE_OF_STRINGS, "strings and field names")
    outline = b'""'.join(unescaped.split(b'"')[::2]).translate(None, b" \t\r\n")
    brackets = outline.translate(None, _NOT_BRACKETS)
    _refuse_more(len(brackets) // 2, max_values // _SHARE_OF_CONTAINERS, "lists and objects")
    _refuse_more(outline.count(b","), max_values, "values")
    _refuse_deep(brackets)
    if max(map(len, outline.translate(_TO_COMMA).split(b",")), default=0) > MAX_LITERAL:
        raise BadRequest(
            f"The body is not accepted: outside its strings, a number or word has more than {MAX_LITERAL} characters."
        )


def _refuse_more(count: int, most: int, what: str) -> None:
    if count > most:
        raise BadRequest(
            f"The body holds {count:,} {what}; at most {most:,} are accepted (see the setting max_body_values)."
        )


def _refuse_deep(brackets: bytes) -> None:
    """Each turn takes the innermost lists and objects away; where nothing goes, they are not balanced: no JSON."""
    for _ in range(MAX_DEPTH):
        left = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(left) == len(brackets):
            return
        brackets = left
    if brackets:
        raise _too_deep()


def _too_deep() -> BadRequest:
    return BadRequest(f"The body is not accepted: its lists and objects are more than {MAX_DEPTH} levels deep.")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. One of two values under one name would be dropped silently: that is refused."""
    values = dict(pairs)
    if len(values) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise BadRequest(f"The body is not accepted: one object in it names {quoted(name)} twice.")
    return values


def _refuse_half_pairs(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRequest("The body holds half of a surrogate pair; it is not valid Unicode.") from None
