"""The black box's list at every position of a text, by a call with max_tokens 1 for each."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal, Upstream
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.listing.methods import ONE_TOKEN, MethodName, complete

_CALLS_AT_ONCE = 4

Draw = tuple[float | None, Proposal]  # at this temperature


class Steps:
    """Plain drafts of one token, which every black box has; each finds the one before in the prefix cache."""

    name: ClassVar[MethodName] = "steps"
    span: ClassVar[int | None] = 1

    def __init__(self, box: Upstream) -> None:
        self._box = box

    async def lists(self, prefix: Sequence[int], text: Sequence[int]) -> list[Proposal]:
        return complete((await self.block(prefix, text[:-1], ONE_TOKEN)).proposals)

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        """M's list after token_ids + drafted[:i], i = 0 … m, a few calls at a time. Raises UpstreamError."""
        places = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def step(prefix: list[int]) -> Draw:
            async with places:
                return await self._step(prefix, params)

        calls = [asyncio.create_task(step([*token_ids, *drafted[:i]])) for i in range(len(drafted) + 1)]
        try:
            draws = await asyncio.gather(*calls)
        finally:
            await _stopped(calls)
        sent = self.cost(len(token_ids), len(draws))
        return Block(draws[-1][0], [proposal for _, proposal in draws], sent.prompt_tokens, sent.generated_tokens)

    def cost(self, prefix: int, text: int) -> Cost:
        return Cost(text, text * prefix + text * (text - 1) // 2, text)

    async def _step(self, prefix: list[int], params: DraftParams) -> Draw:
        async with self._box.draft(prefix, params) as draft:
            async for proposal in draft:
                return draft.temperature, proposal
        raise MalformedTopK("The upstream ended its answer without a token.")


async def _stopped(calls: Sequence["asyncio.Task[Draw]"]) -> None:
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
