"""Who belongs to a pool: every upstream is probed, and must be the same model as the first one that answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from deltaserve.errors import DeltaserveError, UncorrectableUpstream
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.block_scorer import block_scorer
from deltaserve.server.upstream.listing.named import named_ids
from deltaserve.server.upstream.pool.member import Member
from deltaserve.server.upstream.pool.pool import SCORED_PROMPT, Pool
from deltaserve.server.upstream.probing.identity import Identity, same_weights

_MOST_TURNS: Final = 16  # between two tries to let an upstream join that was refused
_ALIKE: Final = {"k": "alternatives listed at a position", "ids_in": "token ids as prompts", "vocab_size": "vocabulary"}
_NAMES: Final = {"named_ids": "number of ids that a call may name (setting named_ids)"}

Connected = tuple[CompletionsBox, Identity]
Known = tuple[Capabilities, Identity]  # as it was when the pool was opened: the box may be probed anew


@dataclass(slots=True)
class Applicant:
    """One upstream that is to serve: `connect` probes it. Raises UncorrectableUpstream, UpstreamError."""

    name: str
    connect: Callable[[], Awaitable[Connected]]
    reason: str | None = field(default=None, init=False)  # why it has not joined
    reached: bool = field(default=False, init=False)  # and answered

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "state": "absent", "fault": self.reason}


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What the operator allows."""

    patience_s: float = 10.0  # one call may wait so long for an upstream that can be asked
    scored_prompt: int = SCORED_PROMPT
    join_every_s: float = 5.0
    late_s: float = 10.0  # that others may take longer to answer than the first one, before a start goes on without
    names_ids: bool = False  # ids are to be asked for by name, if the first one that answers tells them


async def open_pool(applicants: Sequence[Applicant], limits: PoolLimits) -> Pool:
    """A pool of those that answer now; the others join when they do.

    Raises UncorrectableUpstream where one of them cannot be corrected or is another model than the first that answers,
    and what keeps the first one away where none answers.
    """
    joined = await _connected(applicants, limits.late_s)
    try:
        _refuse_strangers(joined, limits)
    except BaseException:
        await _close(joined)
        raise
    reference = _known(next(iter(joined.values())))
    several = len(applicants) > 1
    members = [_member(name, box, limits, several=several) for name, (box, _) in joined.items()]
    pool = Pool(members, patience_s=limits.patience_s)
    if several:
        absent = [applicant for applicant in applicants if applicant.name not in joined]
        work = asyncio.create_task(_look_after(pool, absent, reference, limits))
        pool.looked_after(work, lambda: [applicant.describe() for applicant in absent])
    return pool


def _known(connected: Connected) -> Known:
    return connected[0].capabilities, connected[1]


def unlike(reference: Known, candidate: Connected, *, names_ids: bool = False) -> str | None:
    """Why answers could not go on at the candidate that began at the reference; None where they can.

    `names_ids`: ids are asked for by name, so that answers depend on whether they are told.
    """
    known, facts = reference[0], candidate[0].capabilities
    for name, meaning in (_ALIKE | _NAMES if names_ids else _ALIKE).items():
        one, other = getattr(known, name), getattr(facts, name)
        if one != other and None not in (one, other):
            advice = f" Set upstream_k to {min(one, other)}." if name == "k" else ""
            return f"its {meaning}: {other}, where the others have {one}.{advice}"
    if not same_weights(reference[1], candidate[1]):
        return (
            "it lists other tokens than the others do after the same prompts, so it is another model or another build."
        )
    return None


async def _connected(applicants: Sequence[Applicant], late_s: float) -> dict[str, Connected]:
    """By name, in the applicants' order. Raises what no waiting can mend, or the first fault where nobody answers."""
    named = len(applicants) > 1
    tasks = [asyncio.create_task(_one(applicant, named=named)) for applicant in applicants]
    try:
        await _in_time(tasks, late_s)
        heard = [None if task.cancelled() else task.result() for task in tasks]
        for applicant, one in zip(applicants, heard, strict=True):
            if one is None:
                applicant.reason = f"It has not answered {late_s:g} s after another one did; it joins when it does."
    except BaseException:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await _close({str(at): one for at, one in enumerate(ended) if isinstance(one, tuple)})
        raise
    joined = {a.name: one for a, one in zip(applicants, heard, strict=True) if isinstance(one, tuple)}
    if not joined:
        raise next(error for error in heard if isinstance(error, DeltaserveError))
    return joined


async def _in_time(tasks: Sequence["asyncio.Task[Connected | DeltaserveError]"], late_s: float) -> None:
    """Until all have ended, or for a while after the first of them has connected: the others are cancelled then.

    One that raises ends the wait: a start must not go on then.
    """
    waiting, until = set[Any](tasks), None
    loop = asyncio.get_running_loop()
    while waiting and (until is None or loop.time() < until):
        left = None if until is None else until - loop.time()
        ended, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if any(task.exception() is not None for task in ended):
            break
        if until is None and any(isinstance(task.result(), tuple) for task in ended):
            until = loop.time() + late_s
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def _one(applicant: Applicant, *, named: bool) -> Connected | DeltaserveError:
    """Connected, or why it is away. Raises what is no matter of waiting; `named`: with the applicant's name."""
    try:
        return await applicant.connect()
    except DeltaserveError as error:
        if not error.retryable:
            if named and isinstance(error, UncorrectableUpstream):
                raise UncorrectableUpstream(f"{applicant.name}: {error.message}") from error
            raise
        applicant.reason = error.message
        return error


def _refuse_strangers(joined: dict[str, Connected], limits: PoolLimits) -> None:
    first, *others = joined
    for name in others:
        if (reason := unlike(_known(joined[first]), joined[name], names_ids=limits.names_ids)) is not None:
            raise UncorrectableUpstream(f"{name} cannot stand beside {first}: {reason}")


async def _look_after(pool: Pool, absent: list[Applicant], reference: Known, limits: PoolLimits) -> None:
    """Lets members join and come back. One that was refused is tried again, less and less often: it may be mended."""
    pauses = dict.fromkeys((applicant.name for applicant in absent), 1)
    turn = 0
    while True:
        await asyncio.sleep(limits.join_every_s)
        turn += 1
        await pool.look_at_troubled()
        for applicant in [one for one in absent if turn % pauses[one.name] == 0]:
            if await _join(pool, applicant, reference, limits):
                absent.remove(applicant)
            elif applicant.reached:
                pauses[applicant.name] = min(2 * pauses[applicant.name], _MOST_TURNS)


async def _join(pool: Pool, applicant: Applicant, reference: Known, limits: PoolLimits) -> bool:
    log = structlog.get_logger(__name__)
    try:
        box, identity = await applicant.connect()
    except DeltaserveError as error:
        applicant.reached, reason = not error.retryable, error.message
    except Exception as error:  # noqa: BLE001  (of pages as no known server has them; the others are looked after)
        applicant.reached, reason = True, f"Its pages or answers are not understood ({type(error).__name__})."
    else:
        applicant.reached = True
        if (stranger := unlike(reference, (box, identity), names_ids=limits.names_ids)) is None:
            pool.join(_member(applicant.name, box, limits, several=True))
            log.info("upstream_joined", upstream=applicant.name)
            return True
        await box.aclose()
        reason = f"It is kept out: {stranger}"
    if reason != applicant.reason:
        log.warning("upstream_absent", upstream=applicant.name, reason=reason)
    applicant.reason = reason
    return False


def _member(name: str, box: CompletionsBox, limits: PoolLimits, *, several: bool) -> Member:
    held_to = box.capabilities.k if several else None
    return Member(name, box, block_scorer(box, limits.scored_prompt), named_ids(box), held_to_k=held_to)


async def _close(joined: dict[str, Connected]) -> None:
    await asyncio.gather(*(box.aclose() for box, _ in joined.values()))
