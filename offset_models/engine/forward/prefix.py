"""Which slot a sequence gets, and whose computed prefix it starts from.

Every slot remembers the ids whose states it holds, also after its sequence has ended: system prompts and chat
histories are found there again. A free slot is overwritten least recently used first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Storage(Protocol):
    """Keys and values by slot."""

    def copy(self, source: int, target: int, start: int, stop: int, /) -> int:
        """Give positions start..stop-1 of one slot to another; returns where that ended, for want of memory."""

    def keep(self, slot: int, length: int, /) -> None:
        """Positions from `length` on are not needed any more."""


@dataclass(slots=True, eq=False)
class Slot:
    """One sequence's states in one model. `ids` is its stream's own list; the first `length` of them are computed."""

    index: int
    key: str | None = None  # the adapter it was computed with; None: the base
    ids: list[int] = field(default_factory=list)
    length: int = 0
    live: bool = False
    used: int = 0  # larger: released more recently
    turn: int = 0  # how many sequences have had the slot
    leader: "Leader | None" = None


@dataclass(frozen=True, slots=True)
class Leader:
    """A live slot that is computing a prefix of another's sequence: wait for it, then copy."""

    slot: Slot
    turn: int  # the sequence that was meant
    shared: int  # tokens to take over

    @property
    def working(self) -> bool:
        same = self.slot.live and self.slot.turn == self.turn
        return same and self.slot.length < min(self.shared, len(self.slot.ids))


class SlotPool:
    """The slots of one model. Prefixes shorter than `block` tokens are not worth a search or a copy."""

    def __init__(self, slots: int, block: int, storage: Storage) -> None:
        self.slots = [Slot(index) for index in range(slots)]
        self.block = block
        self._storage = storage
        self._clock = 0

    def acquire(self, key: str | None, ids: list[int]) -> Slot:
        """A slot for the sequence `ids`, started from the longest known prefix. The last token is always left to do.

        Admission has made sure that a slot is free.
        """
        source, shared = self._longest(key, ids)
        slot = self._target(source, shared)
        ready = min(shared, source.length) if source else 0
        leader = None
        if source is not None and source is not slot:
            leader = Leader(source, source.turn, shared) if shared > ready else None
            ready = self._storage.copy(source.index, slot.index, 0, ready)
        self._storage.keep(slot.index, ready)
        slot.key, slot.ids, slot.length, slot.live, slot.leader = key, ids, ready, True, leader
        slot.turn += 1
        return slot

    def release(self, slot: Slot) -> None:
        """Its sequence ended; what it holds stays findable."""
        self._clock += 1
        slot.live, slot.used, slot.leader = False, self._clock, None

    def forget(self, slot: Slot) -> None:
        """Drop what a slot holds (its model or adapter is going, or its numbers are not finite)."""
        slot.key, slot.ids, slot.length, slot.used = None, [], 0, 0
        self._storage.keep(slot.index, 0)

    def spare(self) -> bool:
        """Forget the idle slot unused for longest that holds something, for its memory; False where there is none."""
        idle = [slot for slot in self.slots if not slot.live and slot.length]
        if idle:
            self.forget(min(idle, key=lambda slot: slot.used))
        return bool(idle)

    def forget_key(self, key: str) -> None:
        """Drop the states that a removed adapter has computed."""
        for slot in self.slots:
            if slot.key == key:
                self.forget(slot)

    def waits(self, slot: Slot) -> bool:
        """True while a leader computes what this slot needs; afterwards that has been taken over."""
        leader = slot.leader
        if leader is None:
            return False
        if leader.working:
            return True
        slot.leader = None
        source = leader.slot
        stop = min(leader.shared, source.length, len(slot.ids) - 1) if source.key == slot.key else 0
        if stop > slot.length and source.ids[:stop] == slot.ids[:stop]:
            slot.length = self._storage.copy(source.index, slot.index, slot.length, stop)
        return False

    def _longest(self, key: str | None, ids: list[int]) -> tuple[Slot | None, int]:
        best, shared = None, self.block - 1
        for slot in self.slots:
            if slot.key == key and slot.ids[: self.block] == ids[: self.block]:
                reach = len(slot.ids) if slot.live else slot.length
                common = min(common_prefix(slot.ids, ids), reach, len(ids) - 1)
                if common > shared:
                    best, shared = slot, common
        return (best, shared) if best else (None, 0)

    def _target(self, source: Slot | None, shared: int) -> Slot:
        """The source itself where less than a block of it would be lost, else the free slot unused for longest."""
        free = [slot for slot in self.slots if not slot.live]
        others = [slot for slot in free if slot is not source]
        if source is not None and source in free and (not others or source.length - shared < self.block):
            return source
        return min(others, key=lambda slot: slot.used)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading elements that are equal."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:  # equal up to low, different within high
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
