"""How exact a server says its answers were: counters of /metrics, over a stretch of greedy answers."""

import re
from collections.abc import Mapping
from typing import Final

from deltaserve.client.calls import Call
from deltaserve.client.evaluation.leakage_results import Exactness
from deltaserve.client.evaluation.target import Target

COUNTERS: Final = (
    "generation_tokens",
    "certified_tokens",
    "tail_mass",
    "replaced_tokens",
    "upstream_restarts",
    "upstream_calls",
    "guarded_tokens",
)


async def counters(target: Target) -> dict[str, float] | None:
    """The counters so far; None where the server shows none."""
    response = await target.send(Call("GET", "/metrics", bytes))
    totals = dict(re.findall(r"^deltaserve_(\w+)_total (\S+)$", response.text, re.MULTILINE))
    return {name: float(totals.get(name, 0.0)) for name in COUNTERS} if "generation_tokens" in totals else None


def between(start: Mapping[str, float] | None, end: Mapping[str, float] | None) -> Exactness | None:
    """What was counted in between, by whomever it was asked; None where nothing was said or nothing is counted."""
    if start is None or end is None:
        return None
    grown = {name: end[name] - start[name] for name in COUNTERS}
    tokens = grown["generation_tokens"]
    if tokens <= 0:
        return None
    return Exactness(
        tokens=int(tokens),
        certified_share=min(1.0, grown["certified_tokens"] / tokens),
        mean_tail_mass=grown["tail_mass"] / tokens,
        replaced_share=min(1.0, grown["replaced_tokens"] / tokens),
        restarts_per_100_tokens=100 * grown["upstream_restarts"] / tokens,
        guarded_share=min(1.0, grown["guarded_tokens"] / tokens),
    )
