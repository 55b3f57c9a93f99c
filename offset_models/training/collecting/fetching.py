"""Fetches from the black box what is missing: its answers, and its top-k along every answer. Each is cached."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from deltaserve.errors import UpstreamError
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.training.collecting.cache import AnswerCache, TopKCache
from deltaserve.offset_models.training.collecting.collected import Caches
from deltaserve.offset_models.training.collecting.source import Scorer, Scores, Source
from deltaserve.offset_models.training.rows.dataset import Data, Encoded
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from deltaserve.server.upstream.cost import Cost

T = TypeVar("T")


def cost_of_missing(missing: tuple[Sequence[Sample], Sequence[Sequence[int]]], data: Data, scorer: Scorer) -> Cost:
    """What `fetch_missing` will ask: scoring calls, and one call for each answer (more where tokens are swallowed)."""
    samples, prompts = missing
    scoring = (scorer.cost(sample) for sample in samples)
    answering = (Cost(1, len(prompt), data.answer_tokens) for prompt in prompts)
    return sum([*scoring, *answering], Cost())


async def fetch_missing(
    data: Data,
    encoded: Encoded,
    caches: Caches,
    source: Source,
    scorer: Scorer,
    progress: Stages,
    end_ids: Sequence[int],
) -> None:
    """Ask for everything that is missing: answers first, then top-k. What was fetched before a failure is kept."""
    source = replace(source, concurrency=scorer.concurrency(source.concurrency))
    _, prompts = caches.missing(encoded)
    if prompts:
        with progress.stage("answers", len(prompts)) as advance:
            both = caches.answers, caches.tops
            await fetch_answers(prompts, scorer, both, data.answer_tokens, end_ids, source.concurrency, advance)
    samples = caches.samples(encoded)
    with progress.stage("top-k", len(samples)) as advance:
        await fetch_top_k(samples, scorer, caches.tops, source.concurrency, advance)


async def fetch_top_k(
    samples: Sequence[Sample],
    scorer: Scores,
    cache: TopKCache,
    concurrency: int,
    advance: Callable[[], object] = lambda: None,
) -> list[TopK]:
    """Top-k of every sample, in order; only those that are not cached are fetched. Raises UpstreamError.

    `advance` is called once per sample. What was fetched before a failure is kept.
    """
    missing = {sample.digest: sample for sample in samples if cache.get(sample) is None}
    for _ in range(len(samples) - len(missing)):
        advance()

    async def fetch(sample: Sample) -> None:
        cache.put(sample, await scorer.top_k(sample))
        advance()

    try:
        await run_on_all(missing.values(), fetch, concurrency)
    finally:
        cache.flush()
    return [top for sample in samples if (top := cache.get(sample)) is not None]


async def fetch_answers(
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
        await run_on_all(missing, fetch, concurrency)
    finally:
        tops.flush()
        answers.flush()


async def run_on_all(items: Iterable[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """`work` on all of them, at most `concurrency` at a time; the first UpstreamError ends it."""
    remaining = iter(items)

    async def worker() -> None:
        for item in remaining:
            await work(item)

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
