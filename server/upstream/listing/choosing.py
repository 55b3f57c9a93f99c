"""Which methods a black box really has: each is tried on one sentence and compared with a plain step."""

from collections.abc import Iterable, Iterator
from typing import Final

from deltaserve.errors import (
    MalformedTopK,
    UncorrectableUpstream,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.base import Capabilities, TokenizerView
from deltaserve.server.upstream.comparison import SAME_LIST, difference
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.generate import Generate
from deltaserve.server.upstream.listing.grammar import Grammar
from deltaserve.server.upstream.listing.methods import NAMES, Method, MethodName
from deltaserve.server.upstream.listing.one_prompt import Echo, PromptLogprobs
from deltaserve.server.upstream.listing.prompt_list import PromptList
from deltaserve.server.upstream.listing.steps import Steps

_SENTENCE: Final = "The capital of France is Paris, and the river that runs through it is the Seine."
_SCORED: Final = 4  # the sentence's last tokens
_TRIES: Final = 2  # of a method that the server breaks or hangs over: the first time it may have been restarting


def method_of(name: MethodName, box: CompletionsBox) -> Method:
    """The named method of asking this black box."""
    kinds = {kind.name: kind for kind in (PromptLogprobs, Generate, Echo, Grammar, PromptList, Steps)}
    return kinds[name](box)


def cheapest(box: CompletionsBox, names: Iterable[MethodName] = NAMES) -> Method | None:
    """Of the named methods the first one that was proven to hold; None where there is none."""
    return next((method_of(name, box) for name in names if getattr(box.capabilities, name)), None)


def method_for_texts(box: CompletionsBox, wanted: MethodName | None = None) -> Method:
    """The wanted method, or the cheapest for many texts at a time. Raises UncorrectableUpstream when there is none."""
    # A list is spread over the slots: each of them then computes the text for itself, and lists push each other out.
    spread = box.capabilities.slots is not None
    method = cheapest(box, [wanted] if wanted else [name for name in NAMES if not (spread and name == "prompt_list")])
    if method is not None:
        return method
    raise UncorrectableUpstream(
        f"The upstream cannot score a text by {wanted or 'any known way'}"
        + (f"; leave the choice to the probe, or take another of {', '.join(NAMES)}." if wanted else ".")
    )


async def proven_methods(box: CompletionsBox, tokenizer: TokenizerView) -> dict[MethodName, bool]:
    """Whether each method tells the list of a plain step, as facts for `Capabilities`. Raises UpstreamError."""
    if not box.capabilities.ids_in:
        return {name: name == "steps" for name in NAMES}
    limit = box.capabilities.max_context
    ids = tokenizer.encode(_SENTENCE)
    ids = ids[: limit // 2] if limit else ids
    try:
        step = await _step(box, ids)
    except (MalformedTopK, UpstreamRefused):
        return dict.fromkeys(NAMES, False)
    possible = {*_possible(box.capabilities)}
    return {name: name in possible and await _holds(box, name, ids, step) for name in NAMES}


def _possible(facts: Capabilities) -> Iterator[MethodName]:
    """Those that are worth a call."""
    yield "steps"
    if facts.dialect != "sglang":
        yield from ("echo", "prompt_list")
    if facts.dialect == "vllm":
        yield "prompt_logprobs"
    if facts.dialect == "llamacpp":
        yield "grammar"
    if facts.server.lower().startswith("sglang") and ":" not in facts.model:  # base:adapter, which it does not name
        yield "generate"


async def _holds(box: CompletionsBox, name: MethodName, ids: list[int], step: Proposal) -> bool:
    method = method_of(name, box)
    count = min(_SCORED, method.span or _SCORED)
    for _ in range(_TRIES):
        try:
            lists = await method.lists(ids[:-count], ids[-count:])
        except (MalformedTopK, UpstreamRefused):
            return False
        except (UpstreamUnreachable, UpstreamTimeout):
            await _step(box, ids)  # it breaks or hangs over what it does not know, or is away: a step tells
        else:
            return len(lists) == count and difference(lists[-1], step) <= SAME_LIST
    return False


async def _step(box: CompletionsBox, ids: list[int]) -> Proposal:
    """The list before the last id, in the plainest way."""
    (proposal,) = await Steps(box).lists(ids[:-1], ids[-1:])
    return proposal
