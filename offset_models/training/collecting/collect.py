"""What the black box says along the training text: its top-k at every answer position, fetched once and cached."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from deltaserve.errors import UpstreamError
from deltaserve.offset_models.training.collecting.cache import SHARD, AnswerCache, TopK, TopKCache
from deltaserve.offset_models.training.collecting.source import Scorer, Scores, Source, connected
from deltaserve.offset_models.training.rows.samples import Sample

__all__ = ["SHARD", "Scorer", "Source", "TopK", "TopKCache", "collect", "collect_answers", "connected"]

T = TypeVar("T")


async def collect(
    samples: Sequence[Sample],
    scorer: Scores,
    cache: TopKCache,
    concurrency: int,
    advance: Callable[[], object] = lambda: None,
) -> list[TopK]:
    """Top-k of every sample, in order; only those not cached are asked for. Raises errors of the UpstreamError branch.

    `advance` is called once per sample. What was fetched before a failure is kept.
    """
    missing = {sample.digest: sample for sample in samples if cache.get(sample) is None}
    for _ in range(len(samples) - len(missing)):
        advance()

    async def fetch(sample: Sample) -> None:
        cache.put(sample, await scorer.top_k(sample))
        advance()

    try:
        await each(missing.values(), fetch, concurrency)
    finally:
        cache.flush()
    return [top for sample in samples if (top := cache.get(sample)) is not None]


async def collect_answers(
    prompts: Sequence[Sequence[int]],
    scorer: Scorer,
    caches: tuple[AnswerCache, TopKCache],
    max_tokens: int,
    end_ids: Sequence[int],
    concurrency: int,
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Greedy answers of the prompts that have none in the cache; their top-k comes with them. Raises UpstreamError."""
    answers, tops = caches
    missing = dict.fromkeys(tuple(prompt) for prompt in prompts if answers.get(prompt) is None)
    for _ in range(len(prompts) - len(missing)):
        advance()

    async def fetch(prompt: tuple[int, ...]) -> None:
        sample, top = await scorer.answer(prompt, max_tokens, end_ids)
        tops.put(sample, top)
        answers.put(prompt, sample.answer_ids)
        advance()

    try:
        await each(missing, fetch, concurrency)
    finally:
        tops.flush()
        answers.flush()


async def each(things: Iterable[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """`work` on all of them, at most `concurrency` at a time; the first UpstreamError ends it."""
    left = iter(things)

    async def worker() -> None:
        for thing in left:
            await work(thing)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(worker())
    except* UpstreamError as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[UpstreamError]) -> UpstreamError:
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if not isinstance(first, UpstreamError):
        raise first
    return first
