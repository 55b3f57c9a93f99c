"""A real black box's own greedy answers, asked once and kept: they are what every recipe is compared with."""

from collections.abc import Sequence
from pathlib import Path

from offset_models.tokenizer import Tokenizer
from offset_models.training.cache import AnswerCache
from offset_models.training.collect import each
from server.upstream.base import BlackBox
from server.upstream.greedy import greedy_answer

AT_A_TIME = 4


async def known_answers(
    box: BlackBox, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], max_tokens: int, folder: Path
) -> list[str]:
    """Texts, in the order of the prompts; only those that the folder lacks are asked for."""
    cache = AnswerCache(folder, box.capabilities.model, max_tokens)
    missing = [ids for ids in prompts if cache.get(ids) is None]

    async def ask(ids: Sequence[int]) -> None:
        cache.put(ids, (await greedy_answer(box, ids, max_tokens, tokenizer.eos_ids))[0])

    try:
        await each(missing, ask, AT_A_TIME)
    finally:
        cache.flush()
    return [tokenizer.decode(cache.get(ids) or (), True) for ids in prompts]
