"""The black box's own answer, greedy or drawn, with its list at every position: usually one streamed call."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import numpy as np

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Draft, DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities


class Drafts(Protocol):
    """What is needed of a black box here."""

    @property
    def capabilities(self) -> Capabilities: ...

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]: ...


async def greedy_answer(
    box: Drafts, prompt: Sequence[int], max_tokens: int, end_ids: Collection[int]
) -> tuple[list[int], list[Proposal]]:
    """The most probable token after the most probable token, until an end token (kept) or `max_tokens`; their lists.

    Raises UpstreamError.
    """
    return await _answer(box, prompt, DraftParams(0.0, max_tokens), end_ids, _best, _never)


async def drawn_answer(
    box: Drafts,
    prompt: Sequence[int],
    params: DraftParams,
    end_ids: Collection[int],
    done: Callable[[Sequence[int]], bool] = lambda _ids: False,
) -> list[int]:
    """An answer as the black box draws it, until an end token (kept), `max_tokens`, or `done` of the ids so far.

    A token that it does not show is drawn from its list. The temperature is what it admits. Raises UpstreamError.
    """
    generator = np.random.default_rng(params.seed)

    def chosen(proposal: Proposal) -> int:
        if params.temperature == 0:
            return _best(proposal)
        shown = proposal.token_id
        return _from_list(proposal, params.temperature, generator) if shown is None else shown

    return (await _answer(box, prompt, params, end_ids, chosen, done))[0]


async def _answer(
    box: Drafts,
    prompt: Sequence[int],
    params: DraftParams,
    end_ids: Collection[int],
    chosen: Callable[[Proposal], int],
    done: Callable[[Sequence[int]], bool],
) -> tuple[list[int], list[Proposal]]:
    ends = {*end_ids, *box.capabilities.end_ids}
    ids: list[int] = []
    lists: list[Proposal] = []
    while len(ids) < params.max_tokens and not (ids and (ids[-1] in ends or done(ids))):
        before = len(ids)
        async with box.draft([*prompt, *ids], _rest(params, before)) as draft:
            async for proposal in draft:
                if not proposal.top_ids.size:
                    break
                if proposal.end_id is not None:
                    ends.add(proposal.end_id)
                lists.append(proposal)
                ids.append(chosen(proposal))
                # What was drawn may be another token: swallowed, or drawn at temperature 1 where lists are processed.
                if ids[-1] in ends or ids[-1] != proposal.token_id or done(ids):
                    break
        if len(ids) == before:
            raise MalformedTopK("The upstream stops before it shows an end token or a list.")
    return ids, lists


def _rest(params: DraftParams, done: int) -> DraftParams:
    """What a call behind so many tokens asks for: with the same seed it would draw as the first one did."""
    seed = None if params.seed is None else params.seed + done
    return DraftParams(params.temperature, params.max_tokens - done, seed)


def _best(proposal: Proposal) -> int:
    return int(proposal.top_ids[0])


def _never(_ids: Sequence[int]) -> bool:
    return False


def _from_list(proposal: Proposal, temperature: float, generator: np.random.Generator) -> int:
    weights = np.exp((proposal.top_logprobs - proposal.top_logprobs[0]) / temperature)
    return int(generator.choice(proposal.top_ids, p=weights / weights.sum()))
