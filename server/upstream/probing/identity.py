"""Which black box answers: what its pages say and what it lists after two short prompts, to be compared again later."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.continuity import Difference
from deltaserve.server.upstream.probing.detect import Detected
from deltaserve.server.upstream.probing.measure import SHARPENED, Probe, Table, difference, slope
from deltaserve.server.upstream.probing.tokenizer_check import probe_prompt

_OTHER_PROMPT: Final = "My name is"
_OTHER_TEMPERATURE: Final = 0.5
_SAME_WEIGHTS: Final = 0.1  # share of the listed mass: bfloat16 moves 0.01 of it, a small fine-tuning more than this
_SAME_LIST: Final = 0.3  # the most that may count as noise: 4-bit weights and a cached prefix move half a nat
_TRIES: Final = 3  # noise passes in one of these, other weights in none


@dataclass(frozen=True, slots=True)
class Identity:
    """What was seen at the start."""

    pages: Detected
    lists: tuple[Table, Table]  # after either prompt, at temperature 1
    raw: bool
    tolerance: float  # how far lists of the same weights may be apart


def without_pretence(box: CompletionsBox) -> None:
    """Ask as if lists were raw, so that another temperature shows, and for prompts that are computed, not cached."""
    facts = box.capabilities
    cached = False if facts.dialect == "llamacpp" else facts.prefix_cache
    box.adopt(replace(facts, raw_logprobs=True, prefix_cache=cached))


async def identify(probe_of: Callable[[list[int]], Probe], tokenizer: TokenizerView, pages: Detected) -> Identity:
    """Of the probed black box. Raises UpstreamError."""
    one, other = _prompts(tokenizer)
    probe = probe_of(one)
    raw, cached = probe.box.capabilities.raw_logprobs, await probe.listed(1.0)
    without_pretence(probe.box)
    lists = await probe.listed(1.0), await probe_of(other).listed(1.0)
    noise = difference(lists[0], cached)
    return Identity(pages, lists, raw, min(max(_SAME_WEIGHTS, 3 * noise), _SAME_LIST))


async def compare(
    was: Identity, probe_of: Callable[[list[int]], Probe], tokenizer: TokenizerView, pages: Detected
) -> Difference | None:
    """Two calls of one token each, repeated only where lists differ. Raises UpstreamError."""
    if replace(pages, notes=()) != replace(was.pages, notes=()):
        return Difference("its own pages say something else of it than they did")
    one, other = map(probe_of, _prompts(tokenizer))
    found: Difference | None = None
    for _ in range(_TRIES):
        found = _compare_lists(was, await one.listed(1.0), await other.listed(_OTHER_TEMPERATURE))
        if found is None:
            break
    return found


def _compare_lists(was: Identity, one: Table, other: Table) -> Difference | None:
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


def _differ(was: Identity, at: int, listed: Table) -> bool:
    """Lists of different lengths are compared as far as both go."""
    length = min(len(listed), len(was.lists[at]))
    tables = [dict(sorted(table.items(), key=_logprob)[:length]) for table in (was.lists[at], listed)]
    return difference(*tables) > was.tolerance


def _logprob(entry: tuple[int, float]) -> float:
    return -entry[1]


def _prompts(tokenizer: TokenizerView) -> tuple[list[int], list[int]]:
    one = probe_prompt(tokenizer)
    return one, tokenizer.encode(_OTHER_PROMPT) or one
