"""A real black box's own greedy answers, asked once and kept: they are what every recipe is compared with.

One at a time, as the corrected ones are: what a server computes beside other streams differs in its last digits, which
tips near-ties.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.cache import AnswerCache
from deltaserve.server.upstream.base import ProbedUpstream
from deltaserve.server.upstream.listing.greedy import greedy_answer


async def known_answers(
    box: ProbedUpstream,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    folder: Path,
    advance: Callable[[], object] = lambda: None,
) -> list[str]:
    """Texts, in the order of the prompts; only those that the folder lacks are asked for."""
    cache = AnswerCache(folder, box.capabilities.model, max_tokens)
    try:
        for ids in prompts:
            if cache.get(ids) is None:
                cache.put(ids, (await greedy_answer(box, ids, max_tokens, tokenizer.eos_ids))[0])
            advance()
    finally:
        cache.flush()
    return [tokenizer.decode(cache.get(ids) or (), True) for ids in prompts]


async def one_by_one(
    ask: Callable[[Sequence[Sequence[int]], Callable[[], object]], Awaitable[list[str]]],
    prompts: Sequence[Sequence[int]],
    advance: Callable[[], object],
) -> list[str]:
    """The answers to all prompts, each asked when the one before is done."""
    return [answer for ids in prompts for answer in await ask([ids], advance)]
