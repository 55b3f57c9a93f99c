"""Which black box answers: what its pages say and what it lists after two short prompts, to be compared again later."""

from dataclasses import dataclass, replace
from typing import Final

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.comparison import SAME_LIST, difference, slope
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.continuity import Difference
from deltaserve.server.upstream.probing.detect import Detected
from deltaserve.server.upstream.probing.forms import forms
from deltaserve.server.upstream.probing.probe import SHARPENED, Probe
from deltaserve.server.upstream.probing.prompts import probe_prompts

_OTHER_TEMPERATURE: Final = 0.5
_SAME_WEIGHTS: Final = 0.1  # share of the listed mass: bfloat16 moves 0.01 of it, a small fine-tuning more than this
_TRIES: Final = 3  # noise passes in one of these, other weights in none


@dataclass(frozen=True, slots=True)
class Identity:
    """What was seen at the start."""

    pages: Detected
    lists: tuple[Proposal, Proposal]  # after either prompt, at temperature 1
    raw: bool
    tolerance: float  # how far lists of the same weights may be apart


async def identify(box: CompletionsBox, tokenizer: TokenizerView, pages: Detected) -> Identity:
    """Of the probed black box. Raises UpstreamError."""
    one, other = probe_prompts(box, tokenizer)
    cached, plain = await Probe(box, one).listed(1.0), _without_pretence(box)
    lists = await Probe(plain, one).listed(1.0), await Probe(plain, other).listed(1.0)
    noise = difference(lists[0], cached)
    return Identity(pages, lists, box.capabilities.raw_logprobs, min(max(_SAME_WEIGHTS, 3 * noise), SAME_LIST))


async def compare(was: Identity, box: CompletionsBox, tokenizer: TokenizerView, pages: Detected) -> Difference | None:
    """Two calls of one token each, repeated only where lists differ. Raises UpstreamError."""
    if replace(pages, notes=()) != replace(was.pages, notes=()):
        return Difference("its own pages say something else of it than they did")
    plain = _without_pretence(box)
    one, other = (Probe(plain, prompt) for prompt in probe_prompts(box, tokenizer))
    for _ in range(_TRIES):
        changed = await _compared(was, one, other)
        if changed is None:
            break
    return changed or await _compare_forms(box, one.prompt)


async def _compared(was: Identity, one: Probe, other: Probe) -> Difference | None:
    """A list that is wrong is a difference: a single one may be an accident."""
    try:
        return _compare_lists(was, await one.listed(1.0), await other.listed(_OTHER_TEMPERATURE))
    except MalformedTopK as error:
        return Difference(error.message.rstrip("."))


async def _compare_forms(box: CompletionsBox, prompt: list[int]) -> Difference | None:
    """Of a black box whose masked lists are believed: a setting, or what it was asked first, decides its engine."""
    facts = box.capabilities
    if not (facts.same_forms and facts.list_masked):
        return None
    for _ in range(_TRIES):
        now = await forms(box, prompt, breaks=True)
        if all(getattr(facts, name) == value for name, value in now.items()):
            return None
    return Difference("it holds answers to grammars otherwise than it did")


def _without_pretence(box: CompletionsBox) -> CompletionsBox:
    """Asked as if lists were raw, so that another temperature shows, and for prompts that are computed, not cached."""
    facts = box.capabilities
    return box.knowing(raw_logprobs=True, prefix_cache=False if facts.dialect == "llamacpp" else facts.prefix_cache)


def _compare_lists(was: Identity, one: Proposal, other: Proposal) -> Difference | None:
    if _differ(was, 0, one):
        return OTHER_WEIGHTS
    sharper = slope(was.lists[1], other)
    if (sharper is not None and was.raw != (sharper < SHARPENED)) or (was.raw and _differ(was, 1, other)):
        return Difference("its log-probabilities are not what they were at another temperature")
    return None


OTHER_WEIGHTS: Final = Difference(
    "it lists other tokens than it did, so other weights answer there. The offset belongs to those that were probed: "
    "start them again at that address, or restart this server to accept the new ones",
    other_weights=True,
)


def same_weights(was: Identity, now: Identity) -> bool:
    """Whatever else has changed."""
    return not any(_differ(was, at, listed) for at, listed in enumerate(now.lists))


def _differ(was: Identity, at: int, listed: Proposal) -> bool:
    """Lists of different lengths are compared as far as both go."""
    length = min(len(listed.top_ids), len(was.lists[at].top_ids))
    return difference(_best(was.lists[at], length), _best(listed, length)) > was.tolerance


def _best(listed: Proposal, count: int) -> Proposal:
    return Proposal(None, listed.top_ids[:count], listed.top_logprobs[:count])
