"""JSON Schema's formats: which ones are enforced, and what must be added to llguidance's own reading of them."""

from collections.abc import Mapping
from typing import Final

_LEAP_YEAR: Final = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY: Final = f"^(?:[0-9]{{4}}-(?:0[13-9]|1[0-2])-[0-9]{{2}}|[0-9]{{4}}-02-(?:[01][0-9]|2[0-8])|{_LEAP_YEAR}-02-29)"
# The second 60 exists at the end of a day in UTC alone.
_SECOND: Final = r"(?:[0-9]{2}:[0-9]{2}:[0-5][0-9][^:]*(?:[0-9]{2}:[0-9]{2})?|23:59:60(?:\.[0-9]+)?(?:[zZ]|[+-]00:00))$"

# Format → a pattern that its strings must match too; None where llguidance's own reading is the standard's.
ENFORCED: Final[Mapping[str, str | None]] = {
    "date-time": f"{_DAY}[tT]{_SECOND}",
    "date": f"{_DAY}$",
    "time": f"^{_SECOND}",
    "duration": None,
    "email": "^[^@]{1,64}@",
    "hostname": "^.{1,253}$",
    "ipv4": None,
    "ipv6": None,
    "uuid": None,
    "uri": None,
}
# The standard's other formats. Names outside the standard (OpenAPI's int32, pydantic's binary) say nothing.
NOT_ENFORCED: Final = frozenset(
    {
        "idn-email",
        "idn-hostname",
        "uri-reference",
        "iri",
        "iri-reference",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
        "regex",
    }
)
