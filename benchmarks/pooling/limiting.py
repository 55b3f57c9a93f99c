"""One rented upstream that answers 429 to some calls: what of its work reaches clients, and who calls too early."""

import asyncio
from collections.abc import Sequence
from typing import Any

from benchmarks.pooling.limiter import Limiter
from benchmarks.support.processes import Running
from benchmarks.swap.streams import Ask, Crowd, Got, torn

_GENERATED = "deltaserve_upstream_completion_tokens_total"


async def load_limited(
    served: Running, limiter: Limiter, asks: Sequence[Ask], *, clients: int, seconds: float
) -> dict[str, Any]:
    """Figures of so many seconds of load, and of what was running then."""
    answers: list[Got] = []
    before = generated(served)
    limiter.on = True
    async with Crowd(served.url, asks, clients, answers):
        await asyncio.sleep(seconds)
        accepted = limiter.accepted
    made = generated(served) - before
    whole = sum(len(got.ids) for got in answers if got.whole)
    return {
        "answers": len(answers),
        "failed_answers": torn(answers),
        "calls_let_through": limiter.accepted,
        "calls_refused": limiter.refused,
        "calls_before_retry_after": limiter.early,
        "goodput": whole / made if made else 0.0,  # tokens in whole answers ÷ tokens that the upstream generated
        "calls_per_second": accepted / seconds,
        "faults": sorted({got.fault for got in answers if got.fault}),
    }


def generated(served: Running) -> float:
    """Tokens that upstreams were paid for so far."""
    return sum(value for name, value in served.metrics().items() if name.startswith(_GENERATED))
