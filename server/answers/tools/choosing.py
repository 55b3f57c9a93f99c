"""Which format a model writes its calls in."""

from typing import Final

from deltaserve.errors import NotConfigured
from deltaserve.server.answers.tools.hermes import Hermes
from deltaserve.server.answers.tools.protocol import ToolFormat

FORMATS: Final[tuple[ToolFormat, ...]] = (Hermes(),)
NAMES: Final = tuple(one.name for one in FORMATS)


def format_of(template: str, override: str = "auto") -> ToolFormat | None:
    """The format that the chat template shows, or the one that is named; None: none is known, or `off`.

    Raises `NotConfigured` where the name is unknown.
    """
    if override == "off":
        return None
    if override == "auto":
        return next((one for one in FORMATS if one.matches(template)), None)
    for one in FORMATS:
        if one.name == override:
            return one
    raise NotConfigured(f"tool_format must be auto, off, or one of {', '.join(NAMES)}.")
