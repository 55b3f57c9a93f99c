"""Collecting as one job: what is known, what it costs to know the rest, and asking for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from deltaserve.errors import Conflict
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.folder import Collection, read_collection, writing_in
from deltaserve.offset_models.training.collecting.gather import Caches, Shown, estimate, gather, record
from deltaserve.offset_models.training.collecting.source import Scorer, Source, connected
from deltaserve.offset_models.training.collecting.unchanged import asked_again, check_unchanged
from deltaserve.offset_models.training.rows.sides import Data, Encoded, check_rows, encoded
from deltaserve.server.upstream.listing.methods import Cost, MethodName


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be collected, from whom, and where it is kept."""

    data: Data
    source: Source  # an empty model: the only one that the black box lists
    tokenizer: Tokenizer
    out: Path
    method: MethodName | None = None  # None: the cheapest that works
    skip_bad: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """What stands to be asked."""

    collection: Collection
    samples: int  # in all, those included that wait for an answer
    cached: int
    unanswered: int  # retain rows that the black box has yet to answer
    cost: Cost
    notes: tuple[str, ...] = ()  # on the black box
    bad: tuple[str, ...] = ()  # rows left out


async def run(job: Job, shown: Shown, announce: Callable[[Forecast], None], *, dry_run: bool = False) -> Forecast:
    """Collect what is missing; `announce` comes before anything of the training text is asked.

    When nothing is missing nobody is asked, the black box need not be there, and others may read the folder meanwhile.
    Raises BadRow, Conflict (also for a black box with other weights than the folder's), UncorrectableUpstream,
    UpstreamError; what was fetched before a failure is kept.
    """
    known = _known(job)
    if known is not None and (done := _all_known(job, known)) is not None:
        announce(done)
        if dry_run or done.collection == known:
            return done
        with writing_in(job.out):
            if _known(job) == known:  # else somebody was faster, and may have purged it
                done.collection.write(job.out)
                return done
    with nullcontext() if dry_run else writing_in(job.out):
        _known(job)  # of the one who had the folder until now
        return await _missing(job, shown, announce, dry_run)


async def _missing(job: Job, shown: Shown, announce: Callable[[Forecast], None], dry_run: bool) -> Forecast:
    async with _asked(job) as (scorer, found, caches):
        forecast = _forecast(job, scorer, found, caches)
        announce(forecast)
        if not dry_run:
            await check_unchanged(asked_again(caches.known(found)), scorer)
            forecast.collection.write(job.out)
            await gather(job.data, found, caches, job.source, scorer, shown, job.tokenizer.eos_ids)
            forecast.collection.model_copy(update={"complete": True}).write(job.out)
        return forecast


@asynccontextmanager
async def _asked(job: Job) -> AsyncIterator[tuple[Scorer, Encoded, Caches]]:
    found = encoded(job.data, job.tokenizer)
    check_rows(found, skip_bad=job.skip_bad)  # before anybody is bothered
    async with connected(job.source, job.tokenizer, job.method) as scorer:
        found = encoded(job.data, job.tokenizer, scorer.box.capabilities.max_context)
        check_rows(found, skip_bad=job.skip_bad)
        yield scorer, found, Caches.open(job.out, scorer.model, scorer.k, job.data.answer_tokens)


def _forecast(job: Job, scorer: Scorer, found: Encoded, caches: Caches) -> Forecast:
    missing = caches.missing(found)
    facts = scorer.box.capabilities
    again = sum((scorer.cost(sample) for sample, _ in asked_again(caches.known(found))), Cost())
    return Forecast(
        collection=record(job.data, job.tokenizer, scorer, job.source.k),
        samples=len(found),
        cached=len(found) - len(missing[0]) - len(missing[1]),
        unanswered=len(missing[1]),
        cost=estimate(missing, job.data, scorer) + again,
        notes=(*facts.notes, *_short_list(job, scorer)),
        bad=tuple(found.bad),
    )


def _short_list(job: Job, scorer: Scorer) -> tuple[str, ...]:
    if scorer.k >= min(job.source.k, job.tokenizer.vocab_size):
        return ()
    return (f"It lists {scorer.k} tokens where {job.source.k} were asked for: k is {scorer.k}.",)


def _all_known(job: Job, known: Collection) -> Forecast | None:
    """When the folder has everything already, what it will say of itself."""
    same = known.asked_k == job.source.k and known.answer_tokens == job.data.answer_tokens
    if not same or job.source.model not in ("", known.model):
        return None
    found = encoded(job.data, job.tokenizer, known.max_context)
    check_rows(found, skip_bad=job.skip_bad)
    caches = Caches.open(job.out, known.model, known.k, known.answer_tokens)
    if any(caches.missing(found)):
        return None
    collection = known.model_copy(update={**job.data.sides(), "complete": True, "purged_at": None})
    return Forecast(collection, len(found), len(found), 0, Cost(), bad=tuple(found.bad))


def _known(job: Job) -> Collection | None:
    """The folder's record. Raises Conflict for one of another tokenizer."""
    known = read_collection(job.out)
    if known is not None and known.tokenizer != job.tokenizer.fingerprint.ids:
        raise Conflict(
            f"{job.out} was collected with another tokenizer, whose ids mean other tokens: give another --out."
        )
    return known
