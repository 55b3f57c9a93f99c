"""How much the tools of one request may ask of the grammars' compiler, strict or not, in whatever format."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.tools.protocol import Tool
from deltaserve.server.grammars.translating import MAX_OBJECTS_COST, MAX_PROPERTIES

MAX_TOOLS: Final = 512  # OpenAI takes 128
MAX_PATTERNS: Final = 512  # each is tried alone, whether it can be kept


def refuse_large(tools: Sequence[Tool]) -> None:
    """Raises `BadRequest`."""
    if len(tools) > MAX_TOOLS:
        raise BadRequest(f"`tools` has {len(tools):,} functions; at most {MAX_TOOLS} are taken.", param="tools")
    cost = patterns = 0
    waiting: list[Any] = [tool.parameters for tool in tools]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            size = _properties(value)
            cost += size**2
            patterns += isinstance(value.get("pattern"), str)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    if patterns > MAX_PATTERNS:
        raise BadRequest(f"`tools` have {patterns:,} patterns; at most {MAX_PATTERNS} are taken.", param="tools")
    if cost > MAX_OBJECTS_COST:
        raise BadRequest("`tools` have too many large objects in their parameters to be compiled.", param="tools")


def _properties(schema: Mapping[str, Any]) -> int:
    properties = schema.get("properties")
    size = len(properties) if isinstance(properties, Mapping) else 0
    if size > MAX_PROPERTIES:
        raise BadRequest(
            f"An object in the parameters of `tools` has {size:,} properties; at most {MAX_PROPERTIES:,} are taken.",
            param="tools",
        )
    return size
