"""Collecting as one job: what is there already, what the rest costs, and fetching it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from deltaserve.errors import Conflict
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.collected import Caches
from deltaserve.offset_models.training.collecting.fetching import cost_of_missing, fetch_missing
from deltaserve.offset_models.training.collecting.folder import Collection, read_collection, writing_in
from deltaserve.offset_models.training.collecting.source import Scorer, Source, connected
from deltaserve.offset_models.training.collecting.unchanged import check_unchanged, sample_again
from deltaserve.offset_models.training.rows.dataset import (
    Check,
    Data,
    Encoded,
    RowsSummary,
    check_rows,
    encode_data,
    no_check,
)
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.listing.methods import MethodName


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be collected, from whom, and where it is kept."""

    data: Data
    source: Source  # an empty model: the only one that the black box lists
    tokenizer: Tokenizer
    out: Path
    method: MethodName | None = None  # None: the cheapest that works
    skip_bad: bool = False
    check: Check = no_check  # of what is to be trained on these rows, before the black box is asked


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a job has to fetch, and what that costs."""

    collection: Collection
    samples: int  # in all, those included that wait for an answer
    cached: int
    unanswered: int  # retain rows that the black box has yet to answer
    cost: Cost
    notes: tuple[str, ...] = ()  # on the black box
    bad: tuple[str, ...] = ()  # rows left out


async def collect(
    job: Job, progress: Stages, announce: Callable[[Forecast], None], *, dry_run: bool = False
) -> Forecast:
    """Collect what is missing; `announce` is called before any training text is sent.

    When nothing is missing no call is made, the black box may be down, and others may read the folder meanwhile.
    Raises BadRow, Conflict (also for a black box with other weights than the folder's), UncorrectableUpstream,
    UpstreamError; what was fetched before a failure is kept.
    """
    record = _record_of(job)
    if record is not None and (forecast := _complete(job, record)) is not None:
        announce(forecast)
        if dry_run or forecast.collection == record:
            return forecast
        with writing_in(job.out):
            if _record_of(job) == record:  # else somebody was faster, and may have purged it
                forecast.collection.write(job.out)
                return forecast
    with nullcontext() if dry_run else writing_in(job.out):
        _record_of(job)  # of the one who had the folder until now
        return await _missing(job, progress, announce, dry_run)


async def _missing(job: Job, progress: Stages, announce: Callable[[Forecast], None], dry_run: bool) -> Forecast:
    async with _probed(job) as (scorer, encoded, caches):
        forecast = _forecast(job, scorer, encoded, caches)
        announce(forecast)
        if not dry_run:
            await check_unchanged(sample_again(caches.known(encoded)), scorer)
            forecast.collection.write(job.out)
            await fetch_missing(job.data, encoded, caches, job.source, scorer, progress, job.tokenizer.eos_ids)
            forecast.collection.model_copy(update={"complete": True}).write(job.out)
        return forecast


@asynccontextmanager
async def _probed(job: Job) -> AsyncIterator[tuple[Scorer, Encoded, Caches]]:
    encoded = encode_data(job.data, job.tokenizer, check=job.check)
    check_rows(encoded, skip_bad=job.skip_bad)  # before anybody is bothered
    async with connected(job.source, job.tokenizer, job.method) as scorer:
        encoded = encode_data(job.data, job.tokenizer, scorer.box.capabilities.max_context, job.check)
        check_rows(encoded, skip_bad=job.skip_bad)
        yield scorer, encoded, Caches.open(job.out, scorer.model, scorer.k, job.data.answer_tokens)


def _forecast(job: Job, scorer: Scorer, encoded: Encoded, caches: Caches) -> Forecast:
    missing = caches.missing(encoded)
    facts = scorer.box.capabilities
    again = sum((scorer.cost(sample) for sample, _ in sample_again(caches.known(encoded))), Cost())
    return Forecast(
        collection=_new_record(job.data, job.tokenizer, scorer, job.source.k),
        samples=len(encoded),
        cached=len(encoded) - len(missing[0]) - len(missing[1]),
        unanswered=len(missing[1]),
        cost=cost_of_missing(missing, job.data, scorer) + again,
        notes=(*facts.notes, *_short_list(job, scorer)),
        bad=tuple(encoded.bad),
    )


def _new_record(data: Data, tokenizer: Tokenizer, scorer: Scorer, asked_k: int) -> Collection:
    """What the folder will say of itself; not complete yet."""
    return Collection(
        model=scorer.model,
        server=scorer.box.capabilities.server,
        k=scorer.k,
        asked_k=asked_k,
        method=scorer.method.name,
        tokenizer=tokenizer.fingerprint.ids,
        max_context=scorer.box.capabilities.max_context,
        answer_tokens=data.answer_tokens,
        forget=RowsSummary.of(data.forget),
        retain=RowsSummary.of(data.retain),
    )


def _short_list(job: Job, scorer: Scorer) -> tuple[str, ...]:
    if scorer.k >= min(job.source.k, job.tokenizer.vocab_size):
        return ()
    return (f"It lists {scorer.k} tokens where {job.source.k} were asked for: k is {scorer.k}.",)


def _complete(job: Job, known: Collection) -> Forecast | None:
    """When the folder has everything already, what it will say of itself."""
    same = known.asked_k == job.source.k and known.answer_tokens == job.data.answer_tokens
    if not same or job.source.model not in ("", known.model):
        return None
    encoded = encode_data(job.data, job.tokenizer, known.max_context, job.check)
    check_rows(encoded, skip_bad=job.skip_bad)
    caches = Caches.open(job.out, known.model, known.k, known.answer_tokens)
    if any(caches.missing(encoded)):
        return None
    collection = known.model_copy(update={**job.data.summaries(), "complete": True, "purged_at": None})
    return Forecast(collection, len(encoded), len(encoded), 0, Cost(), bad=tuple(encoded.bad))


def _record_of(job: Job) -> Collection | None:
    """The folder's record. Raises Conflict for one of another tokenizer."""
    known = read_collection(job.out)
    if known is not None and known.tokenizer != job.tokenizer.fingerprint.ids:
        raise Conflict(
            f"{job.out} was collected with another tokenizer, whose ids mean other tokens: give another --out."
        )
    return known
