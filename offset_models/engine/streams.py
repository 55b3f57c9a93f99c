"""A stream as the engine thread sees it, and the messages that change it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from deltaserve.errors import ContextLengthExceeded, DeltaserveError
from deltaserve.offset_models.engine.forward.branches import Branches
from deltaserve.offset_models.engine.forward.prefix import Slot, common_prefix
from deltaserve.offset_models.engine.models import LoadedModel, LoadedPair
from deltaserve.server.decoding.protocols import OffsetRow

OUTSIDE: Final = "A token id lies outside the vocabulary of the offset models."


@dataclass(frozen=True, slots=True)
class Lane:
    """One member that a stream runs: a model, with an adapter or without."""

    model: LoadedModel
    adapter: int | None
    key: str | None  # digest of the adapter


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a row is made of. Lanes are distinct: a base shared by several offsets runs once."""

    parts: tuple[tuple[LoadedPair, float], ...]  # pairs with their strengths
    lanes: tuple[Lane, ...]
    members: tuple[tuple[int, int], ...]  # (initial, unlearned) of each part, as positions in `lanes`
    gated: bool = True  # whether the pairs' gates hold

    @property
    def width(self) -> int:
        """Ids of a row."""
        return min(lane.model.runner.vocab_rows for lane in self.lanes)

    @property
    def id_limit(self) -> int:
        """Ids below this have an embedding in every member."""
        return min(lane.model.embedding_rows for lane in self.lanes)


def recipe(parts: Sequence[tuple[LoadedPair, float]], *, gated: bool = True) -> Recipe:
    """The recipe of Σ_j α_j·δ_j."""
    lanes: list[Lane] = []

    def place(lane: Lane) -> int:
        if lane not in lanes:
            lanes.append(lane)
        return lanes.index(lane)

    members = tuple(
        (place(Lane(pair.initial, None, None)), place(Lane(pair.unlearned, pair.adapter, pair.adapter_key)))
        for pair, _ in parts
    )
    return Recipe(tuple(parts), tuple(lanes), members, gated)


class Owner(Protocol):
    """Who gets a stream's rows, on its own event loop."""

    loop: asyncio.AbstractEventLoop

    def deliver(self, epoch: int, position: int, row: OffsetRow | DeltaserveError) -> None: ...


@dataclass(slots=True, eq=False)
class EngineStream:
    """Ids, how far they are computed, and which rows are wanted. Changed by the engine thread only."""

    recipe: Recipe
    max_len: int
    ids: list[int] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)  # one per lane, from the first ids on
    done: int = 0  # ids that every lane has computed
    want_from: int = 0  # rows of all positions from here on are wanted
    epoch: int = 0
    fed_at: float | None = None  # when ids came last, by the engine's clock
    closed: bool = False
    decided: bool = False  # the engine decides its tokens: rows stay here
    error: Exception | None = None  # what ended it, where the engine decides
    fan: "Fan | None" = None  # ways on whose rows are wanted, once
    owner: Owner | None = None
    id_limit: int = field(init=False)  # the recipe's, which takes a while to find

    def __post_init__(self) -> None:
        self.id_limit = self.recipe.id_limit

    @property
    def todo(self) -> int:
        """Ids to compute."""
        return len(self.ids) - self.done

    @property
    def waits(self) -> bool:
        """Whether the next batches have something to do for it."""
        return self.todo > 0 or self.fan is not None

    def knows(self, token_id: int) -> bool:
        """Whether every member has an embedding of this id."""
        return 0 <= token_id < self.id_limit

    def follow(self, ids: list[int], first: int) -> None:
        """The stream is these ids; the rows of all positions from `first` = len(ids) on are wanted, that one too."""
        kept = common_prefix(self.ids, ids)
        self.want_from = first
        self.done = min(self.done, kept, first - 1)
        for slot in self.slots:
            slot.length = min(slot.length, self.done)
        del self.ids[kept:]
        self.ids.extend(ids[kept:])

    def go_on(self, kept: int, new: list[int]) -> None:
        """Replace the ids after `kept`; what was computed up to there stays."""
        if kept < len(self.ids):
            self.done = min(self.done, kept)
            for slot in self.slots:
                slot.length = min(slot.length, self.done)
            del self.ids[kept:]
        self.ids.extend(new)

    def feed(self, kept: int, new: list[int], want_from: int) -> None:
        """Replace the ids after `kept`; the token before the first wanted row is computed (again)."""
        if want_from != kept + 1 or self.want_from > kept + 1:
            self.want_from = want_from
        if kept < len(self.ids) or want_from <= kept:
            self.done = min(self.done, kept, want_from - 1)
            for slot in self.slots:
                slot.length = min(slot.length, self.done)
            del self.ids[kept:]
        self.ids.extend(new)

    def too_long(self, n: int) -> ContextLengthExceeded:
        return ContextLengthExceeded(f"{n} tokens do not fit: the offset models take at most {self.max_len}.")


@dataclass(frozen=True, slots=True)
class Hurry:
    """A caller waits for a row of the stream: run the next batch without waiting for other streams."""

    stream: EngineStream


@dataclass(frozen=True, slots=True)
class Feed:
    """Keep `kept` ids, append `new`, give the rows of the positions from `want_from` on."""

    stream: EngineStream
    kept: int
    new: list[int]
    want_from: int
    epoch: int


@dataclass(frozen=True, slots=True, eq=False)
class Fan:
    """Give the rows of these branches behind the stream's ids, in the order in which they are wanted."""

    stream: EngineStream
    branches: Branches
    tell: Callable[[Sequence[OffsetRow | DeltaserveError]], None]  # in the engine's thread

    @property
    def reach(self) -> int:
        """Ids of the stream that must be there."""
        return max(self.branches.starts)
