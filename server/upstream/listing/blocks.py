"""The black box's list at every position of a block that somebody else drafted: one call, a prompt per position.

The prompts are prefix, prefix + d₁, prefix + d₁d₂, …; each asks for one token with its top-k. The upstream's prefix
cache makes all but the first nearly free; no prompt log-probabilities are needed, which bypass that cache.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deltaserve.errors import MalformedTopK, UpstreamUnreachable
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal
from deltaserve.server.upstream.http.refusals import error_from, error_of
from deltaserve.server.upstream.http.strict_json import parsed
from deltaserve.server.upstream.ledger import WITHOUT_LIST

if TYPE_CHECKING:
    from deltaserve.server.upstream.dialects.completions import CompletionsBox
    from deltaserve.server.upstream.http.transport import EventStream


async def score_block(
    box: "CompletionsBox", token_ids: Sequence[int], drafted: Sequence[int], temperature: float, params: DraftParams
) -> Block:
    """M's list after token_ids + drafted[:i], i = 0 … m. Raises UpstreamError; a partial answer is none."""
    prompts = [[*token_ids, *drafted[:i]] for i in range(len(drafted) + 1)]
    body = box.request(prompts[0], temperature, params) | {"prompt": prompts, "max_tokens": 1}
    found: list[Proposal | None] = [None] * len(prompts)
    async with box.opened(body) as events:
        while await events.wait():
            while events.arrived:
                _collect(box, events, events.arrived.popleft(), found)
    lists = [await _known(box, prompt, seen) for prompt, seen in zip(prompts, found, strict=True)]
    return Block(box.drawn_at(temperature), lists)


def _collect(box: "CompletionsBox", events: "EventStream", payload: bytes, found: list[Proposal | None]) -> None:
    if payload == b"[DONE]":
        events.finish()
        return
    try:
        chunk = parsed(payload)
        if chunk is None:  # llama.cpp sends `data: null` for each prompt of a list that waits for a slot
            return
        if "choices" not in chunk or chunk.get("error"):
            raise error_from(200, error_of(chunk) or {})
        for choice in chunk["choices"]:
            _take(box, choice, found)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        raise MalformedTopK("The upstream's answer does not have the shape of its dialect.") from None


def _take(box: "CompletionsBox", choice: dict[str, Any], found: list[Proposal | None]) -> None:
    if choice.get("finish_reason") in ("error", "abort"):
        raise UpstreamUnreachable("The upstream broke off its answer.")
    index, seen = choice["index"], list(box.proposals(choice)) if choice.get("logprobs") else []
    if type(index) is not int or not 0 <= index < len(found):
        raise MalformedTopK("The upstream answered a prompt that it was not sent.")
    if not seen and choice.get("text") and not box.hides_tokens:
        raise MalformedTopK(WITHOUT_LIST)
    if len(seen) + (found[index] is not None) > 1:
        raise MalformedTopK("The upstream drew more than the one token that was asked for.")
    if seen:
        found[index] = box.ending(seen[0], choice)


async def _known(box: "CompletionsBox", prompt: list[int], seen: Proposal | None) -> Proposal:
    """The list of one position; asked for once more where the upstream swallowed it."""
    return seen if seen is not None and seen.top_ids.size else await box.shown_again(prompt)
