"""Another way to speak to a black box whose first one something between it and us does not let through.

Gateways forward what they know. vllm-router, production-stack and llm-d forward all of a body; LiteLLM and hosted
routers drop fields, token ids first. What is left is asked for: texts of completions, then chats.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from deltaserve.errors import DeltaserveError, MalformedTopK, UncorrectableUpstream, UpstreamRefused
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream.dialects.chat import WithoutTemplate
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.vllm import NamedByText
from deltaserve.server.upstream.http.refusals import Refusal
from deltaserve.server.upstream.probing.detect import Detected
from deltaserve.server.upstream.probing.probe import WithoutLists

Measure = Callable[[Detected], Awaitable[CompletionsBox]]

_OTHERS: Final[Mapping[Dialect, tuple[Dialect, ...]]] = {
    "vllm": ("openai", "chat"),
    "sglang": ("openai", "chat"),
    "openai": ("chat",),
}
_SAID: Final[Mapping[Dialect, str]] = {
    "openai": "Token ids do not come through, so something between strips them: tokens are known by their text.",
    "chat": "Its completions route is not there or lists nothing: it is asked by its chat route, with texts alone.",
}
_NO_SUCH_ROUTE: Final = (404, 405, 501)


async def understood(pages: Detected, measure: Measure, *, guessed: bool) -> tuple[CompletionsBox, Detected]:
    """The measured box, and its pages with the dialect that it is. Raises what `measure` raised first; of a route that
    is there where the first one is not, what it raised then.

    `guessed`: the dialect comes of its pages; one that the operator names is the only one.
    """
    try:
        return await measure(pages), pages
    except (MalformedTopK, UpstreamRefused, UncorrectableUpstream) as error:
        first, last = error, error
    for dialect in _OTHERS.get(pages.dialect, ()) if guessed else ():
        if not _may_speak_otherwise(last):
            break
        other = replace(pages, dialect=dialect, notes=(*pages.notes, _SAID[dialect]))
        try:
            return await measure(other), other
        except (MalformedTopK, UpstreamRefused, UncorrectableUpstream) as error:
            last = error
    raise first if not _lacks_route(first) or _lacks_route(last) or isinstance(last, WithoutTemplate) else last


def _may_speak_otherwise(error: DeltaserveError) -> bool:
    """Whether it failed over what came back, or over the route, rather than over what the black box is."""
    stripped = any(isinstance(each, NamedByText | WithoutLists) for each in (error, error.__cause__))
    return stripped or _lacks_route(error)


def _lacks_route(error: DeltaserveError) -> bool:
    causes = (error, error.__cause__)
    return any(isinstance(each, Refusal) and each.http_status in _NO_SUCH_ROUTE for each in causes)
