"""How the black box is asked about a block of local drafts: a list of prompts or one scored prompt, by measured time.

Both give the same lists. A list of prompts reads the prefix cache and costs a prompt for each position; a scored prompt
is one prompt that reads no cache. Which pays depends on the server, so both are timed where both are possible.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from deltaserve.server.decoding.drafting.pace import Line
from deltaserve.server.decoding.protocols import Block, BlockScorer, DraftParams
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.generate import Generate
from deltaserve.server.upstream.listing.one_prompt import PromptLogprobs
from deltaserve.server.upstream.listing.prompt_list import PromptList

_TRY_AGAIN_EVERY = 32  # blocks: times change with the load
_WORTH_TRYING = 1.5  # how much slower the other method may be expected to be, to be timed again

Ask = Callable[[Sequence[int], Sequence[int], DraftParams], Awaitable[Block]]


def block_scorer(box: CompletionsBox, longest_prompt: int) -> BlockScorer | None:
    """What verifies local drafts; None where nothing can, or only by computing every prompt of a list from its start.

    `longest_prompt`: tokens, prefix and block, that one scored prompt may have; 0: never.
    """
    facts = box.capabilities
    if facts.dialect == "sglang":  # one prompt, of which only the block is computed
        return Generate(box) if facts.generate else None
    if not facts.prompt_list or facts.prefix_cache is False:
        return None
    by_list = PromptList(box)
    if not facts.prompt_logprobs or longest_prompt == 0:
        return by_list
    return TimedScorer(Timed(by_list.block), Timed(PromptLogprobs(box).block), longest_prompt)


@dataclass(slots=True)
class Timed:
    """One method, and how long it takes."""

    ask: Ask
    seconds: Line = field(default_factory=Line)  # against the prompt tokens that have to be computed

    async def block(self, size: int, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        started = time.perf_counter()
        block = await self.ask(token_ids, drafted, params)
        self.seconds.add(size, time.perf_counter() - started)
        return block


@dataclass(slots=True)
class TimedScorer:
    """A `BlockScorer` of two methods, shared by the streams of one black box."""

    by_list: Timed
    by_prompt: Timed
    longest_prompt: int
    _blocks: int = 0

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        """M's list after token_ids + drafted[:i], i = 0 … m. Raises UpstreamError."""
        positions, whole = len(drafted) + 1, len(token_ids) + len(drafted)
        if self._prompt_pays(positions, whole):
            return await self.by_prompt.block(whole, token_ids, drafted, params)
        return await self.by_list.block(positions, token_ids, drafted, params)

    def _prompt_pays(self, positions: int, whole: int) -> bool:
        """The faster one, as far as both are known; now and then the other one, where it is nearly as fast."""
        if whole > self.longest_prompt or not self.by_list.seconds.known:
            return False
        if not self.by_prompt.seconds.known:
            return True
        by_list, by_prompt = self.by_list.seconds(positions), self.by_prompt.seconds(whole)
        self._blocks += 1
        close = max(by_list, by_prompt) < _WORTH_TRYING * min(by_list, by_prompt)
        return (by_prompt < by_list) != (close and self._blocks % _TRY_AGAIN_EVERY == 0)
