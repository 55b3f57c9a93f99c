"""Keywords whose value is no schema: checked, as the value that llguidance is given."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.document import refused
from deltaserve.server.grammars.keywords import TYPES
from deltaserve.server.grammars.patterns import rust_pattern

MAX_VALUES: Final = 10_000  # of an `enum`, with those inside lists and objects
FARTHEST: Final = 9_223_372_036_854_774_784  # bounds beyond are taken as this: no grammar counts farther

_MOST: Final = 2**31 - 1


def types(value: Any, place: str) -> Any:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name in TYPES for name in names):
        raise refused(place, f"a type is one of {', '.join(sorted(TYPES))}, or a list of them")
    return value


def listed(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise refused(place, "it must be a list of one value or more")
    if (size := _size(value)) > MAX_VALUES:
        raise refused(place, f"it has {size:,} values; at most {MAX_VALUES:,} are taken")
    return value


def _size(value: Any) -> int:
    """Values in a list or an object, at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(1 + _size(one) for one in inner)


def count(value: Any, place: str) -> int:
    if not _is_number(value) or value < 0 or value != int(value):
        raise refused(place, "it must be a whole number, 0 or more")
    return min(int(value), _MOST)


def bound(value: Any, place: str) -> float:
    if not _is_number(value):
        raise refused(place, "it must be a number")
    nearest: float = max(-FARTHEST, min(FARTHEST, value))
    return nearest


def multiple(value: Any, place: str) -> float:
    if not _is_number(value) or value <= 0:
        raise refused(place, "it must be a number above 0")
    number: float = value
    return number


def pattern(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise refused(place, "it must be a string")
    try:
        return rust_pattern(value)
    except BadRequest as error:
        raise refused(place, error.message) from None


def names(value: Any, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise refused(place, "it must be a list of names")
    return list(dict.fromkeys(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


CHECKED: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "type": types,
    "enum": listed,
    "pattern": pattern,
    "multipleOf": multiple,
    "required": names,
    "minimum": bound,
    "maximum": bound,
    "minLength": count,
    "maxLength": count,
    "minItems": count,
    "maxItems": count,
    "minProperties": count,
    "maxProperties": count,
}
