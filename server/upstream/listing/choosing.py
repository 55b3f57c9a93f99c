"""Which way of scoring a black box really has: each is tried on one sentence and compared with a forced step."""

from collections.abc import Iterator

import numpy as np

from deltaserve.errors import MalformedTopK, UncorrectableUpstream, UpstreamRefused
from deltaserve.server.decoding.protocols import Floats, Ids, Proposal
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.methods import NAMES, MethodName
from deltaserve.server.upstream.listing.ways import Method, Steps, method_of

_SENTENCE = "The capital of France is Paris, and the river that runs through it is the Seine."
_SCORED = 4  # the sentence's last tokens
_SAME_LIST = 0.3  # share of the listed mass two lists of one position may differ in: caches and batches add noise


async def choose_method(box: CompletionsBox, tokenizer: TokenizerView, wanted: MethodName | None = None) -> Method:
    """The wanted way, or the cheapest that works. Raises UncorrectableUpstream when there is none."""
    ids = tokenizer.encode(_SENTENCE)
    prefix, answer = ids[:-_SCORED], ids[-_SCORED:]
    steps = Steps(box)
    try:
        last = (await steps.lists(ids[:-1], ids[-1:]))[0]
    except (MalformedTopK, UpstreamRefused) as error:
        raise UncorrectableUpstream(error.message) from error
    for name in [wanted] if wanted else _candidates(box):
        method = method_of(name, box)
        if await _holds(method, prefix, answer, last):
            return method
    raise UncorrectableUpstream(
        f"The upstream cannot score a text by {wanted or 'any known way'}"
        + (f"; leave the choice to the probe, or take another of {', '.join(NAMES)}." if wanted else ".")
    )


def _candidates(box: CompletionsBox) -> Iterator[MethodName]:
    """From the cheapest on; what the start-up probe has ruled out is not tried."""
    facts = box.capabilities
    if facts.prompt_logprobs:
        yield "prompt_logprobs"
    if facts.server.lower().startswith("sglang") and ":" not in facts.model:  # base:adapter, which it does not name
        yield "generate"
    yield "echo"
    # A list is spread over the slots: each of them then computes the text for itself, and lists push each other out.
    if facts.prompt_list and facts.slots is None:
        yield "prompt_list"
    yield "steps"


async def _holds(method: Method, prefix: list[int], answer: list[int], last: Proposal) -> bool:
    if method.span is not None and method.span < len(answer):
        prefix, answer = [*prefix, *answer[: -method.span]], answer[-method.span :]
    try:
        found = await method.lists(prefix, answer)
    except (MalformedTopK, UpstreamRefused):
        return False
    return len(found) == len(answer) and difference(found[-1], last) <= _SAME_LIST


def difference(one: Proposal, other: Proposal) -> float:
    """Total variation over the listed ids, as a share of the listed mass."""
    ids = np.union1d(one.top_ids, other.top_ids)
    masses = [_masses(proposal, ids) for proposal in (one, other)]
    return float(np.abs(masses[0] - masses[1]).sum() / (2 * max(mass.sum() for mass in masses)))


def _masses(proposal: Proposal, ids: Ids) -> Floats:
    """Probabilities at sorted `ids` [n]; 0 where not listed."""
    masses = np.zeros(len(ids))
    masses[np.searchsorted(ids, proposal.top_ids)] = np.exp(proposal.top_logprobs)
    return masses
