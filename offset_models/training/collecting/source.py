"""The black box as training asks it: probed, by a method of scoring that holds, and with patience."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

import numpy as np
import stamina

from deltaserve.errors import UpstreamBusy, UpstreamTimeout, UpstreamUnreachable
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.listing.choosing import method_for_texts
from deltaserve.server.upstream.listing.greedy import greedy_answer
from deltaserve.server.upstream.listing.methods import Method, MethodName, spans
from deltaserve.server.upstream.probing.connect import connect

ATTEMPTS: Final = 6  # of one call, each of which the transport tries a few times by itself
_LONGEST_WAIT_S: Final = 60.0  # a longer Retry-After is an error; what was fetched stays
_ANSWER_BYTES: Final = 256 << 20  # one answer holds the lists of a whole text
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Which black box, and how hard it may be asked."""

    url: str  # with or without /v1
    model: str
    k: int = 20
    concurrency: int = 4
    timeout_s: float = 60.0
    api_key: str | None = None
    prefix_cache: bool | None = True  # of answers before and after; None: none where that can be told


class Scores(Protocol):
    """Whatever tells the lists along a sample."""

    async def top_k(self, sample: Sample) -> TopK:
        """At every answer position. Raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A probed black box and the method of scoring that is used. `k` may be less than was wanted."""

    box: CompletionsBox
    method: Method

    @property
    def k(self) -> int:
        return self.box.capabilities.k

    @property
    def model(self) -> str:
        return self.box.capabilities.model

    def concurrency(self, wanted: int) -> int:
        """Calls at a time: past its slots, texts would push each other out of the prefix cache."""
        return min(wanted, self.box.capabilities.slots or wanted)

    async def top_k(self, sample: Sample) -> TopK:
        lists: list[Proposal] = []
        for start, stop in spans(self.method, len(sample.answer_ids)):
            lists += await self._lists(sample, start, stop)
        return stacked(lists, self.box.rules.least)

    async def answer(self, prompt_ids: Sequence[int], max_tokens: int, end_ids: Sequence[int]) -> tuple[Sample, TopK]:
        """The black box's own greedy answer, at least one token, and its lists along it."""

        async def ask() -> tuple[list[int], list[Proposal]]:
            return await greedy_answer(self.box, prompt_ids, max_tokens, end_ids)

        ids, lists = await retried(ask)
        return Sample(tuple(prompt_ids), tuple(ids)), stacked(lists, self.box.rules.least)

    def cost(self, sample: Sample) -> Cost:
        """Of `top_k`."""
        parts = spans(self.method, len(sample.answer_ids))
        calls = (self.method.cost(len(sample.prompt_ids) + start, stop - start) for start, stop in parts)
        return sum(calls, Cost())

    async def _lists(self, sample: Sample, start: int, stop: int) -> list[Proposal]:
        prefix, answer = [*sample.prompt_ids, *sample.answer_ids[:start]], sample.answer_ids[start:stop]

        async def ask() -> list[Proposal]:  # no arguments: the retry library logs them
            return await self.method.lists(prefix, answer)

        return await retried(ask)


@asynccontextmanager
async def connected(source: Source, tokenizer: Tokenizer, method: MethodName | None = None) -> AsyncIterator[Scorer]:
    """Probe the black box and its methods of scoring; `source.model` may be empty for the only one it lists.

    Raises UncorrectableUpstream when its ids are not the tokenizer's or it cannot score, UpstreamError.
    """
    async with probed(source, tokenizer) as box:
        yield Scorer(box, method_for_texts(box, method))


@asynccontextmanager
async def probed(source: Source, tokenizer: Tokenizer) -> AsyncIterator[CompletionsBox]:
    """The black box alone, for who asks it for answers. Raises as `connected`, but it need not score."""
    box = await connect(
        source.url,
        tokenizer=tokenizer,
        model=source.model or None,
        key=source.api_key,
        k=min(source.k, tokenizer.vocab_size),
        timeouts=_timeouts(source),
        limits=_limits(),
    )
    try:
        yield box
    finally:
        await box.aclose()


async def retried(ask: Callable[[], Awaitable[T]]) -> T:
    """One call, again where that can help: a black box that is busy, slow, was restarted, or broke off its answer."""
    return await stamina.AsyncRetryingCaller(attempts=ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=30.0)(
        _wait, ask
    )


def stacked(lists: Sequence[Proposal], k: int) -> TopK:
    """Lists as arrays [positions, k]. One that is shorter, because padding ids were dropped, repeats its last entry."""
    filled = [np.minimum(np.arange(k), len(proposal.top_ids) - 1) for proposal in lists]
    ids = [proposal.top_ids[at] for proposal, at in zip(lists, filled, strict=True)]
    logprobs = [proposal.top_logprobs[at] for proposal, at in zip(lists, filled, strict=True)]
    return TopK(np.array(ids, np.int64), np.array(logprobs, np.float32))


def _timeouts(source: Source) -> Timeouts:
    return Timeouts(first_token_s=source.timeout_s)


def _limits() -> Limits:
    return replace(Limits(), event_bytes=_ANSWER_BYTES)


def _wait(error: Exception) -> bool | float:
    if isinstance(error, UpstreamBusy) and error.retry_after_s is not None:
        return max(error.retry_after_s, 0.05) if error.retry_after_s <= _LONGEST_WAIT_S else False
    return isinstance(error, UpstreamUnreachable | UpstreamBusy | UpstreamTimeout)
