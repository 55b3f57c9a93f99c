"""One answer being made (`Sequence`), the request it belongs to (`Job`), and the tokens that travel between threads."""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from deltaserve.offset_models.demo.blackbox.generation.grammars import Walk
from deltaserve.offset_models.demo.blackbox.generation.params import SamplingParams
from deltaserve.offset_models.demo.blackbox.generation.text import Detokenizer


@dataclass(slots=True)
class Token:
    """One generated token as it is reported. `due` is when its pace lets it go (time.monotonic seconds)."""

    token_id: int
    logprob: float | None  # nats; None when no logprobs were asked for
    top_ids: list[int]  # the drawn one first, then by rank
    top_logprobs: list[float]
    text: str  # what the answer's text grew by; may lag behind the ids
    due: float
    finish_reason: str | None = None  # set on the last one
    stop_reason: int | str | None = None
    damaged: bool = False  # by a fault: may hold what JSON libraries refuse to write


@dataclass(slots=True)
class PromptPosition:
    """What the model thought of one id of the prompt: that id first, then the most probable ones by rank."""

    ids: list[int]
    logprobs: list[float]
    ranks: list[int]


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice. Owned by the engine's thread from submission until its last token is delivered."""

    job: "Job"
    index: int  # choice index
    prompt_ids: list[int]
    rng: np.random.Generator | None  # None: the engine's own
    detokenizer: Detokenizer
    output_ids: list[int] = field(default_factory=list)
    slot: int | None = None
    first_due: float = 0.0
    finished: bool = False
    walk: Walk | None = None  # through its grammar

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def all_ids(self) -> list[int]:
        return [*self.prompt_ids, *self.output_ids]


@dataclass(slots=True, eq=False)
class Group:
    """Sequences whose prompts begin one another: one pass over the longest prompt serves them all."""

    job: "Job"
    prompt_ids: list[int]  # the longest
    sequences: dict[int, list[Sequence]]  # prompt length -> sequences that continue from there
    prompt_index: int | None = None  # of the prompt whose logprobs were asked for
    slot: int | None = None
    done: int = 0  # ids whose keys and values stand in the slot
    cached: int = 0
    positions: list[PromptPosition | None] = field(default_factory=list)

    @property
    def first_needed(self) -> int:
        """Index of the first id whose logits are needed: the cache cannot serve from there on."""
        return 0 if self.prompt_index is not None else min(self.sequences) - 1


@dataclass(frozen=True, slots=True)
class Event:
    """A token of one choice, or the end of everything (`failure`)."""

    index: int
    token: Token


class Job:
    """One request on its way through the engine; the loop's side waits on `batches`, the engine's side delivers."""

    def __init__(self, params: SamplingParams, salt: str | None, loop: asyncio.AbstractEventLoop) -> None:
        self.params = params
        self.salt = salt
        self.created = time.monotonic()
        self.sequences: list[Sequence] = []
        self.groups: list[Group] = []
        self.prompt_positions: dict[int, list[PromptPosition | None]] = {}
        self.cached_tokens = 0
        self.cancelled = False  # written by the loop, read by the engine
        self.gone = asyncio.Event()  # the same for coroutines
        self.open = 0  # sequences without a last token yet; the loop's count
        self.failure: str | None = None
        self.loop = loop
        self._heap: list[tuple[float, int, Event]] = []
        self._order = 0
        self._waiter: asyncio.Future[None] | None = None
        self._wake_before = float("inf")

    def deliver(self, events: list[Event]) -> None:
        """Called on the loop with what the engine has made."""
        for event in events:
            heapq.heappush(self._heap, (event.token.due, self._order, event))
            self._order += 1
        if self._heap and self._heap[0][0] < self._wake_before:
            self._wake()

    def fail(self, message: str) -> None:
        """Called on the loop: the engine cannot answer."""
        self.failure = message
        self._wake()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Events whose time has come, in order; ends after the last token of every choice, or on cancel or failure."""
        while self.open and not self.cancelled and self.failure is None:
            due = self._pop_due()
            if due:
                self.open -= sum(event.token.finish_reason is not None for event in due)
                yield due
            else:
                await self._wait()

    def cancel(self) -> None:
        """Called on the loop when the client has gone."""
        self.cancelled = True
        self.gone.set()
        self._wake()

    def _pop_due(self) -> list[Event]:
        now = time.monotonic() + 0.0005  # timers have a resolution of a millisecond
        due: list[Event] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    async def _wait(self) -> None:
        self._wake_before = self._heap[0][0] if self._heap else float("inf")
        self._waiter = self.loop.create_future()
        timer = None
        if self._heap:
            timer = self.loop.call_later(max(0.0, self._wake_before - time.monotonic()), self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
