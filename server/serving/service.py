"""The use case: encoded prompts in, batches of corrected pieces out. Owns admission, pins, timeouts and draining."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import tokenizers

from deltaserve.errors import DeltaserveError, Unavailable, UpstreamError, UpstreamTimeout
from deltaserve.server.decoding.decoder import DraftSource, generate
from deltaserve.server.decoding.drafting.adaptive import BlockLimits
from deltaserve.server.decoding.drafting.sources import Drafting
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import OffsetSession
from deltaserve.server.decoding.stream import Piece, Stream, StreamStats
from deltaserve.server.decoding.text import PlacedDetokenizer
from deltaserve.server.serving.admission import Gate, Ticket
from deltaserve.server.serving.aside import Aside
from deltaserve.server.serving.prompt_scoring import PromptScoring
from deltaserve.server.settings import Settings
from deltaserve.server.telemetry import Metrics, RequestRecord
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.block_scorer import block_scorer

_OUTBOX_PIECES = 256  # a client that reads slower than this many pieces behind slows its own generation


class Tokenizer(Protocol):
    """What the wire needs of a tokenizer."""

    @property
    def backend(self) -> tokenizers.Tokenizer: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_ids(self) -> Sequence[int]: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def turn_end_id(self) -> int | None: ...
    @property
    def recommended(self) -> Mapping[str, float]: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def longest_token(self) -> int: ...
    @property
    def chat_template(self) -> str | None: ...
    def encode(self, text: str, add_special: bool) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str: ...
    def check_ids(self, ids: Sequence[int]) -> None: ...
    def token_bytes(self, token_id: int) -> bytes: ...
    def detokenizer(self, prompt_ids: Sequence[int] = ()) -> PlacedDetokenizer: ...
    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        chat_template_kwargs: Mapping[str, Any] | None,
    ) -> str: ...


class Version(Protocol):
    """One loaded offset at one strength."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def max_context(self) -> int: ...
    def pin(self) -> AbstractContextManager[Any]: ...
    async def open(self, timeout_s: float) -> OffsetSession: ...


class Registry(Protocol):
    """The loaded versions. `resolve` raises ModelNotFound or Unavailable."""

    @property
    def alive(self) -> bool: ...
    def engine_stats(self) -> Mapping[str, float]: ...
    def resolve(self, model: str | None) -> Version: ...
    def cards(self) -> Sequence[tuple[str, float, Version]]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The two sides that are joined here."""

    upstream: CompletionsBox
    registry: Registry
    served_name: str
    upstream_problem: Callable[[], str | None] = lambda: None  # why the black box is not asked now, where that is known


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to generate."""

    index: int  # among all choices of the request
    sample: int  # among the n choices of its prompt: with the seed it decides the noise, whatever the batch
    prompt_ids: Sequence[int]
    params: SamplingParams
    policy: Policy = field(default_factory=Policy)
    scored: bool = False  # the prompt's own log-probabilities are wanted too


NewSource = Callable[[Choice], DraftSource]


class Serving:
    """Shared by all requests of one app. Parts may arrive after the start (`attach`)."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.aside = Aside()
        self._gate = Gate(settings, metrics)
        self.draining = False
        self.failure: str | None = None  # why the parts will never come
        self.heard_from_upstream = -float("inf")
        self.upstream_fault: str | None = None
        self.registry: Registry | None = None  # before the black box is reached, too: operators may need it then
        self._parts: Parts | None = None
        self._drafting: Drafting | None = None

    def attach(self, parts: Parts) -> None:
        self._parts = parts
        self.registry = parts.registry
        self._drafting = self._drafting_from(parts.upstream)
        self._heard()

    @property
    def attached(self) -> bool:
        return self._parts is not None

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            raise Unavailable(self.failure or "The server is starting: the black box has not been reached yet.")
        return self._parts

    def problems(self) -> list[str]:
        """Why no request can be answered now; empty when ready."""
        if self.draining:
            return ["draining"]
        if self._parts is None:
            return [self.failure or "starting"]
        found = [] if self._parts.registry.alive else ["the offset engine is not running"]
        try:
            self._parts.registry.resolve(None)
        except DeltaserveError as error:
            found.append(error.message)
        return [*found, *filter(None, [self.upstream_trouble])]

    @property
    def upstream_trouble(self) -> str | None:
        """What is wrong with the black box now."""
        return (self._parts.upstream_problem() if self._parts else None) or self.upstream_fault

    @contextmanager
    def pinned(self, model: str | None) -> Iterator[Version]:
        """The version that `model` names, held for the whole request. Raises ModelNotFound, Unavailable."""
        if self.draining:
            raise Unavailable("The server is shutting down.")
        version = self.parts.registry.resolve(model)
        with version.pin():
            yield version

    def engine_stats(self) -> Mapping[str, float]:
        """The engine's counters; empty before there is one."""
        return {} if self._parts is None else self._parts.registry.engine_stats()

    def source(self, choice: Choice) -> DraftSource:
        """The draft source of one stream."""
        if self._drafting is None:
            raise Unavailable("The server is starting: the black box has not been reached yet.")
        return self._drafting.source(explained=bool(choice.policy.explain))

    def _drafting_from(self, upstream: CompletionsBox) -> Drafting:
        """The pair drafts only where the black box takes lists of prompts and need not compute each as a whole."""
        settings = self.settings
        scorer = block_scorer(upstream, settings.local_draft_scored_prompt) if settings.local_drafts else None
        limits = BlockLimits(
            longest_block=settings.local_draft_block,
            positions_per_token=settings.local_draft_positions_per_token,
            concurrent_positions=settings.local_draft_concurrent_positions,
        )
        return Drafting(upstream, scorer, limits, settings.early_restarts)

    def fingerprint(self, version: Version) -> str:
        """`system_fingerprint`: the version, the guards where there are any, and that blind positions are allowed."""
        return "+".join([version.fingerprint, *self.settings.policy.marks])

    def end_ids(self, version: Version) -> frozenset[int]:
        """Ids that end an answer: those the pair's files name and those the black box ends its own answers with."""
        return frozenset(version.tokenizer.eos_ids).union(self.parts.upstream.capabilities.end_ids)

    def sampling_defaults(self, version: Version) -> Mapping[str, float]:
        """Sampling parameters of requests that do not say: what the model's makers recommend, unless that is off."""
        return version.tokenizer.recommended if self.settings.generation_config == "auto" else {}

    def max_context(self, version: Version) -> int:
        """Prompt and answer together, in tokens: what both sides can hold."""
        upstream = self.upstream_context
        return min(version.max_context, upstream) if upstream else version.max_context

    @property
    def upstream_context(self) -> int | None:
        """Prompt and answer together, in tokens, that the black box holds; None where nobody says."""
        return self.settings.upstream_max_context or self.parts.upstream.capabilities.max_context

    @asynccontextmanager
    async def answer(
        self, version: Version, choices: Sequence[Choice], record: RequestRecord, source: NewSource | None = None
    ) -> AsyncIterator["Outbox"]:
        """Starts every choice; leaving the context stops what still runs, upstream calls and engine work included.

        `source` makes the draft source of each choice, where it is not the usual one.
        """
        outbox = Outbox(len(choices))
        with self._gate.reserved(len(choices)) as ticket:
            run = _Run(self, version, outbox, record, ticket, source or self.source)
            tasks = [asyncio.create_task(run.choice(choice)) for choice in choices]
            try:
                yield outbox
            finally:
                await _stop(tasks)
                self.metrics.request_time.observe(time.perf_counter() - run.started)

    async def watch_upstream(self) -> None:
        """Asks an idle black box now and then whether it is there; runs as long as the app."""
        period = self.settings.upstream_ping_s
        while True:
            await asyncio.sleep(period)
            if self.upstream_fault is None and time.monotonic() - self.heard_from_upstream < period:
                continue
            try:
                await self.parts.upstream.ping()
                self._heard()
            except DeltaserveError as error:
                self.upstream_fault = error.message

    def _heard(self) -> None:
        self.heard_from_upstream = time.monotonic()
        self.upstream_fault = None


@dataclass(slots=True)
class _Run:
    """What the choices of one request share."""

    serving: Serving
    version: Version
    outbox: "Outbox"
    record: RequestRecord
    ticket: Ticket
    source: NewSource
    started: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.perf_counter()

    async def choice(self, choice: Choice) -> None:
        """One task: waits for a place, generates, reports its end or its error through the outbox."""
        limit = self.serving.settings.total_timeout_s
        error: BaseException | None = None
        try:
            async with asyncio.timeout(limit) as clock, self.ticket.place():
                await self._generate(choice)
        except TimeoutError as late:
            error = UpstreamTimeout(f"The answer was not complete after {limit:g} s.") if clock.expired() else late
        except UpstreamError as fault:
            self.serving.upstream_fault = fault.message if fault.retryable else None
            error = fault
        except Exception as other:  # noqa: BLE001  (handed to the request, which raises it)
            error = other
        finally:
            self.outbox.end(error)

    async def _generate(self, choice: Choice) -> None:
        settings = self.serving.settings
        session = await self.version.open(settings.queue_timeout_s)
        stats = StreamStats()
        try:
            if choice.scored:
                source = await self._score(choice, session, stats)
            else:
                source = self.source(choice)
                session.prefetch(choice.prompt_ids)
            if choice.params.max_tokens:
                await self._pump(choice, session, source, stats)
            self.serving._heard()
        finally:
            session.close()
            self.serving.metrics.add(stats)
            self.record.add(stats)

    async def _score(self, choice: Choice, session: OffsetSession, stats: StreamStats) -> DraftSource:
        """Sends the prompt's scores ahead. Returns the source of the drafts that may follow."""
        box, context = self.serving.parts.upstream, self.serving.upstream_context
        scoring = PromptScoring(box, choice.prompt_ids, choice.params, choice.policy.tail, stats, context)
        tokens = await scoring.run(session)
        self.serving.metrics.scored_tokens.inc(len(tokens))
        only = choice.params.max_tokens == 0
        await self.outbox.put(choice.index, Piece("", (), "length" if only else None, prompt=tokens))
        return scoring.primed(self.source(choice))

    async def _pump(self, choice: Choice, session: OffsetSession, source: DraftSource, stats: StreamStats) -> None:
        detokenizer = self.version.tokenizer.detokenizer(choice.prompt_ids)
        stream = Stream(choice.prompt_ids, choice.params, session, detokenizer, choice.sample, stats, choice.policy)
        metrics, outbox = self.serving.metrics, self.outbox
        before = self.started
        latency = metrics.first_token
        async with aclosing(generate(stream, source)) as pieces:
            async for piece in pieces:
                now = time.perf_counter()
                latency.observe(now - before)
                before, latency = now, metrics.inter_token
                metrics.generation_tokens.inc(len(piece.steps))
                await outbox.put(choice.index, piece)


class Outbox:
    """Pieces of all choices on their way to one client, in order of arrival. Iterates in batches: all there is."""

    def __init__(self, running: int) -> None:
        self._running = running
        self._items: list[tuple[int, Piece]] = []
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self._space = asyncio.Event()

    async def put(self, index: int, piece: Piece) -> None:
        """Waits while the client is too far behind."""
        while len(self._items) >= _OUTBOX_PIECES:
            self._space.clear()
            await self._space.wait()
        self._items.append((index, piece))
        self._news.set()

    def end(self, error: BaseException | None) -> None:
        """One choice has ended."""
        self._running -= 1
        self._error = self._error or error
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        while True:
            if self._items:  # also those that came before an error
                items, self._items = self._items, []
                self._space.set()
                yield items
            elif self._error is not None:
                raise self._error
            elif not self._running:
                return
            else:
                await self._news.wait()
                self._news.clear()


async def _stop(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels and waits until upstream calls are closed and slots given back, even while being cancelled itself."""
    for task in tasks:
        task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.gather(*tasks, return_exceptions=True)
