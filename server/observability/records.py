"""What is counted while a request is answered. Numbers, ids and names only: never a prompt or an answer."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from deltaserve.server.billing import Bill
from deltaserve.server.serving.admission.clients import ANYBODY, Client, Standing


class Stats(Protocol):
    """Counts of one choice, as the decoder keeps them."""

    upstream_calls: int
    proposed: int
    accepted: int
    replaced: int
    local_proposed: int
    local_accepted: int
    forced: int
    swallowed: int
    blind: int
    wasted: int
    block_positions: int
    early_calls: int
    early_used: int
    named_calls: int
    certified: int
    tail_mass_sum: float
    guarded: int
    unnamed: int
    bridged: int


@dataclass(slots=True)
class RequestRecord:
    """What the access log says of one request; filled in while it is answered."""

    id: str
    started: float = field(default_factory=time.perf_counter)
    client: Client = ANYBODY
    standing: Standing = field(default_factory=Standing)  # what is left of the client's limits
    body_bytes: int = 0
    model: str | None = None
    fingerprint: str | None = None
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    upstream_calls: int = 0
    replaced: int = 0
    bill: Bill = field(default_factory=Bill)

    def add(self, stats: Stats) -> None:
        self.upstream_calls += stats.upstream_calls
        self.replaced += stats.replaced
