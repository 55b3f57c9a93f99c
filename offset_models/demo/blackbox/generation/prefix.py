"""KV slots as a prefix cache: a freed slot keeps its ids and serves later prompts that begin alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot to compute in, and how many ids of the prompt its keys and values already cover.

    `copy_from` is a slot whose first `cached` positions must be copied before use; None: they are in place.
    """

    slot: int
    cached: int
    copy_from: int | None = None


class SlotCache:
    """Which ids each slot's keys and values stand for. A slot is leased to one sequence; idle ones are cache."""

    def __init__(self, slots: int, max_len: int, *, reuse: bool) -> None:
        self._ids = np.full((slots, max_len), -1, np.int32)  # [slots, max_len], valid up to _lengths
        self._lengths = np.zeros(slots, np.int64)
        self._salts: list[str | None] = [None] * slots
        self._leased = np.zeros(slots, bool)
        self._used = np.zeros(slots, np.int64)  # clock of last use: the smallest idle one is evicted
        self._clock = 0
        self._reuse = reuse

    @property
    def free(self) -> int:
        return int((~self._leased).sum())

    def acquire(self, ids: Sequence[int], salt: str | None, limit: int) -> Lease | None:
        """Leases a slot for `ids`, with at most `limit` of them taken from the cache; None when all are leased."""
        if self._leased.all():
            return None
        prompt = np.asarray(ids, np.int32)
        donor, cached = self._longest_prefix(prompt, salt, limit)
        lease = self._choose(donor, cached)
        self._leased[lease.slot] = True
        self._salts[lease.slot] = salt
        self._ids[lease.slot, :cached] = prompt[:cached]
        self._lengths[lease.slot] = cached
        self._touch(lease.slot)
        return lease

    def extend(self, slot: int, ids: Sequence[int]) -> None:
        """The slot now also covers `ids`, right after what it covered."""
        start = int(self._lengths[slot])
        self._ids[slot, start : start + len(ids)] = ids
        self._lengths[slot] = start + len(ids)

    def release(self, slot: int) -> None:
        """The slot becomes cache."""
        self._leased[slot] = False
        self._touch(slot)

    def _touch(self, slot: int) -> None:
        self._clock += 1
        self._used[slot] = self._clock

    def _longest_prefix(self, prompt: NDArray[np.int32], salt: str | None, limit: int) -> tuple[int, int]:
        if not self._reuse or limit <= 0:
            return -1, 0
        differs = self._ids[:, :limit] != prompt[:limit]
        common = np.where(differs.any(axis=1), differs.argmax(axis=1), limit)
        common = np.minimum(common, self._lengths)
        common[[theirs != salt for theirs in self._salts]] = 0
        donor = int(common.argmax())
        return donor, int(common[donor])

    def _choose(self, donor: int, cached: int) -> Lease:
        """The donor itself when it is idle and holds nothing else; else the least recently used slot."""
        if cached and not self._leased[donor] and self._lengths[donor] <= cached + 1:
            return Lease(donor, cached)
        idle = np.flatnonzero(~self._leased)
        slot = int(idle[self._used[idle].argmin()])
        if not cached or slot == donor:
            return Lease(slot, cached)
        return Lease(slot, cached, copy_from=donor)
