"""The black box's lists along a whole prompt, for scoring it: in one call where the upstream can, else step by step."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from deltaserve.errors import MalformedTopK, UnsupportedParameter
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal
from deltaserve.server.upstream.base import BlackBox

_POSITIONS_A_CALL = 32  # prompts in one list: each repeats its whole prefix
_CALLS_AT_ONCE = 4  # where each call takes one prompt


def require_scoring(box: BlackBox) -> None:
    """Raises UnsupportedParameter, saying what is missing, where no prompt can be scored."""
    if not box.capabilities.ids_in:
        raise UnsupportedParameter(
            "`echo` with `logprobs` needs a black box that takes token ids as its prompt, and this one takes text "
            "only: serve the model with vLLM or llama.cpp, or send one of the two fields.",
            param="echo",
        )


async def prompt_lists(
    box: BlackBox,
    token_ids: Sequence[int],
    params: DraftParams,
    *,
    goes_on: bool = True,
    max_context: int | None = None,
) -> AsyncGenerator[Block, None]:
    """M's lists after token_ids[:i], i = 1 … n, in order, some in each block. Raises UpstreamError.

    The list after the whole prompt may be missing unless something `goes_on` from there. `max_context`: tokens that M
    takes, prompt and answer.
    """
    facts = box.capabilities
    length = len(token_ids) if goes_on else len(token_ids) - 1
    if length < 1:
        return
    if facts.prompt_logprobs:
        full = max_context is not None and len(token_ids) >= max_context
        yield _whole(await (_scored_but_for_the_last if full else _scored)(box, token_ids, params))
        return
    token_ids = token_ids[:length]
    for first in range(1, length + 1, _POSITIONS_A_CALL):
        drafted = token_ids[first : first + _POSITIONS_A_CALL - 1]
        steps = box.block if facts.prompt_list else _Stepwise(box).block
        yield _whole(await steps(token_ids[:first], drafted, params))


async def _scored(box: BlackBox, token_ids: Sequence[int], params: DraftParams) -> Block:
    """One call that also tells each token's own log-probability: the last one's too, so it has to be in the prompt."""
    return await box.scored_prompt(token_ids[:1], token_ids[1:], params)


async def _scored_but_for_the_last(box: BlackBox, token_ids: Sequence[int], params: DraftParams) -> Block:
    """The same where the prompt leaves no room for the token that such a call must generate."""
    block = await box.scored_prompt(token_ids[:1], token_ids[1:-1], params)
    *lists, end = block.proposals
    if token_ids[-1] in end.top_ids:
        return block
    return Block(block.temperature, [*lists, await box.scored_token(token_ids[:-1], token_ids[-1])])


def _whole(block: Block) -> Block:
    if not all(proposal.top_ids.size for proposal in block.proposals):
        raise MalformedTopK("The upstream does not show its list at every position of the prompt.")
    return block


class _Stepwise:
    """A `BlockScorer` of calls that take one prompt each, a few at a time."""

    def __init__(self, box: BlackBox) -> None:
        self._box = box
        self._places = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        prefixes = [[*token_ids, *drafted[:i]] for i in range(len(drafted) + 1)]
        calls = [asyncio.create_task(self._step(prefix, params)) for prefix in prefixes]
        try:
            found = await asyncio.gather(*calls)
        finally:
            await _stopped(calls)
        return Block(found[-1][0], [proposal for _, proposal in found])

    async def _step(self, prefix: list[int], params: DraftParams) -> tuple[float | None, Proposal]:
        async with self._places, self._box.draft(prefix, params) as draft:
            async for proposal in draft:
                return draft.temperature, proposal
        raise MalformedTopK("The upstream ended its answer without a token.")


async def _stopped(calls: Sequence["asyncio.Task[tuple[float | None, Proposal]]"]) -> None:
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
