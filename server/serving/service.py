"""The use case: encoded prompts in, batches of corrected pieces out. Owns admission, pins, timeouts and draining."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from deltaserve.errors import (
    DeltaserveError,
    Forbidden,
    ModelNotFound,
    NoOffset,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from deltaserve.server.billing import Bill
from deltaserve.server.decoding.deciding.corrector import CorrectingSession
from deltaserve.server.decoding.decoder import DraftSource, generate
from deltaserve.server.decoding.drafting.adaptive import BlockLimits
from deltaserve.server.decoding.drafting.sources import Drafting
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.stream import Piece, Stream, StreamStats
from deltaserve.server.observability.facts import describe_answer
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.observability.records import RequestRecord
from deltaserve.server.observability.spans import Span, span
from deltaserve.server.serving.admission.clients import Client
from deltaserve.server.serving.admission.gate import Gate, Ticket
from deltaserve.server.serving.admission.places import LocalPlaces, Places
from deltaserve.server.serving.outbox import Outbox, PacedOutbox
from deltaserve.server.serving.ports import Backends, Registry, Version
from deltaserve.server.serving.prompt_scoring import PromptScoring
from deltaserve.server.serving.worker_threads import WorkerThreads
from deltaserve.server.settings import Settings
from deltaserve.server.upstream.base import UpstreamSession
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.forms import written
from deltaserve.server.upstream.listing.prompts import require_scoring


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to generate."""

    index: int  # among all choices of the request
    sample: int  # among the n choices of its prompt: with the seed it decides the noise, whatever the batch
    prompt_ids: Sequence[int]
    params: SamplingParams
    policy: Policy = field(default_factory=Policy)
    scored: bool = False  # the prompt's own log-probabilities are wanted too
    special: bool = False  # special tokens are shown in the text
    wanted: Mapping[int, str] | None = None  # tokens that the answer's parser wants to see; None: no parser reads it
    pair_prompt: Sequence[int] | None = None  # the prompt for a pair whose tokenizer is not the black box's


_ENGINE_GONE, _ENGINE_HANGS = "the offset engine is not running", "the offset engine does not answer"
_NAMED_PER_TOKEN = 0.05  # calls that ask for ids by name, where `named_ids` is auto

NewSource = Callable[[Choice, UpstreamSession], DraftSource]


class Serving:
    """Shared by all requests of one app. The backends may arrive after the start (`attach`)."""

    def __init__(self, settings: Settings, metrics: Metrics, places: Places | None = None) -> None:
        self.settings = settings
        self.metrics = metrics
        self.threads = WorkerThreads()
        self._own_places = LocalPlaces(settings.most_streams or 0, settings.max_queue)
        self.places = places or self._own_places
        self._gate = Gate(self.places, settings.queue_timeout_s, metrics)
        self.draining = False
        self.failure: str | None = None  # why the backends will never come
        self.heard_from_upstream = -float("inf")
        self.upstream_fault: str | None = None
        self.registry: Registry | None = None  # before the black box is reached, too: operators may need it then
        self._backends: Backends | None = None
        self._drafting: Drafting | None = None

    def open(self, registry: Registry) -> None:
        """The engine is there, and with it the number of places; the black box may still be away."""
        if self.registry is None and self.settings.most_streams is None:
            self._own_places.allow(registry.max_streams)
        self.registry = registry

    def attach(self, backends: Backends) -> None:
        self.open(backends.registry)
        self._backends = backends
        self._drafting = self._drafting_from(self.settings)
        self._heard()

    @property
    def attached(self) -> bool:
        return self._backends is not None

    @property
    def backends(self) -> Backends:
        if self._backends is None:
            raise Unavailable(self.failure or "The server is starting: the black box has not been reached yet.")
        return self._backends

    async def problems(self) -> list[str]:
        """Why no request can be answered now; empty when ready."""
        if self.draining:
            return ["draining"]
        if self._backends is None:
            return [self.failure or "starting"]
        return [*filter(None, [await self._offset_trouble(self._backends.registry), self.upstream_trouble])]

    async def broken(self) -> str | None:
        """Of `problems`, what is this process' own: another one in its place would not have it."""
        if self.failure is not None or self.registry is None:
            return self.failure
        trouble = await self._offset_trouble(self.registry)
        return trouble if trouble in (_ENGINE_GONE, _ENGINE_HANGS) else None

    async def _offset_trouble(self, registry: Registry) -> str | None:
        """Why no offset can be applied now."""
        if not registry.alive:
            return _ENGINE_GONE
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s), registry.pinned(None):
                return None
        except TimeoutError:
            return _ENGINE_HANGS
        except DeltaserveError as error:
            return error.message

    @property
    def upstream_trouble(self) -> str | None:
        """What is wrong with the black box now."""
        return (self._backends.upstream.problem() if self._backends else None) or self.upstream_fault

    @property
    def upstream_members(self) -> list[dict[str, Any]]:
        """Each upstream and its state; none before the first one is reached."""
        return self._backends.upstream.members() if self._backends is not None else []

    @asynccontextmanager
    async def pinned(self, model: str | None, client: Client) -> AsyncIterator[Version]:
        """The version that `model` names, held for the whole request. Raises Forbidden, ModelNotFound, Unavailable."""
        if self.draining:
            raise Unavailable("The server is shutting down.")
        if not self.may_ask(client, model):
            raise Forbidden("This API key may not ask this model; GET /v1/models lists those it may.", param="model")
        try:
            async with self.backends.registry.pinned(model) as version:
                yield version
        except ModelNotFound:
            if client.models is None:
                raise
            raise ModelNotFound.among(model or "", await self.names(client)) from None

    async def names(self, client: Client) -> list[str]:
        """Of the models that there are, those that the client's key may ask."""
        return [name for name, _, _ in await self.backends.registry.cards() if self.may_ask(client, name)]

    def may_ask(self, client: Client, model: str | None) -> bool:
        """Whether the client's key is for that model; None: the active one, under the served name."""
        return client.models is None or (model or self.backends.served_name) in client.models

    async def counted(self) -> Metrics:
        """The metrics, once they say what is so now."""
        self.metrics.ready.set(not await self.problems())
        self.metrics.show_engine(await self._engine_stats())
        self.metrics.show_upstreams(self.upstream_members)
        return self.metrics

    async def _engine_stats(self) -> Mapping[str, float]:
        """The engine's counters; empty before there is one, and where it does not answer."""
        if self._backends is None:
            return {}
        with suppress(TimeoutError, DeltaserveError):
            async with asyncio.timeout(self.settings.connect_timeout_s):
                return await self._backends.registry.engine_stats()
        return {}

    def source(self, choice: Choice, upstream: UpstreamSession) -> DraftSource:
        """The draft source of one stream."""
        if self._drafting is None:
            raise Unavailable("The server is starting: the black box has not been reached yet.")
        blocks = self.settings.local_drafts and self.backends.upstream.scores_blocks
        scorer, names = upstream if blocks else None, upstream if choice.policy.naming is not None else None
        explained, held = bool(choice.policy.explain), choice.params.constraint is not None
        forms = self._sends_form(choice)
        return self._drafting.source(upstream, scorer, names, explained=explained, held=held, forms=forms)

    def _sends_form(self, choice: Choice) -> bool:
        """Whether the black box is sent what the answer is held to."""
        params, policy, facts = choice.params, choice.policy, self.backends.upstream.capabilities
        if params.constraint is None or not self.settings.upstream_grammars:
            return False
        return written(facts, params.constraint.grammar, whole_lists=policy.needs_whole_lists(params)) is not None

    @staticmethod
    def _drafting_from(settings: Settings) -> Drafting:
        limits = BlockLimits(
            longest_block=settings.local_draft_block,
            positions_per_token=settings.local_draft_positions_per_token,
            concurrent_positions=settings.local_draft_concurrent_positions,
        )
        named = _NAMED_PER_TOKEN if settings.named_ids == "auto" else None
        return Drafting(limits, settings.early_restarts, named_per_token=named)

    def fingerprint(self, version: Version) -> str:
        """`system_fingerprint`: the version, the guards where there are any, and that blind positions are allowed."""
        return "+".join([version.fingerprint, *self.policy.marks])

    @property
    def policy(self) -> Policy:
        """How answers are corrected: as the settings say, as far as the black box can."""
        policy = self.settings.policy
        naming, box = policy.naming, None if self._backends is None else self._backends.upstream
        if naming is None:
            return policy
        if box is None or not box.names_ids:
            return replace(policy, naming=None)
        return policy if box.names_go_on else replace(policy, naming=replace(naming, ahead=0))

    def require_scoring(self) -> None:
        """Raises UnsupportedParameter, saying what is missing, where the black box lets no prompt be scored."""
        require_scoring(self.backends.upstream)

    def sampling_defaults(self, version: Version) -> Mapping[str, float]:
        """Sampling parameters of requests that do not say: what the model's makers recommend, unless that is off."""
        return version.tokenizer.recommended if self.settings.generation_config == "auto" else {}

    def max_context(self, version: Version) -> int:
        """Prompt and answer together, in tokens: what the pair and the black box can both hold."""
        upstream = self.upstream_context
        return min(version.max_context, upstream) if upstream else version.max_context

    @property
    def upstream_context(self) -> int | None:
        """Prompt and answer together, in tokens, that the black box holds; None where nobody says."""
        return self.settings.upstream_max_context or self.backends.upstream.capabilities.max_context

    @asynccontextmanager
    async def answer(
        self, version: Version, choices: Sequence[Choice], record: RequestRecord, source: NewSource | None = None
    ) -> AsyncIterator[Outbox]:
        """Starts every choice; leaving the context stops what still runs, upstream calls and engine work included.

        `source` makes the draft source of each choice, where it is not the usual one.
        """
        outbox = self._outbox(len(choices))
        prompts = sum(len(choice.prompt_ids) for choice in choices if choice.sample == 0)
        async with self._gate.reserved(record.client, len(choices), prompts) as ticket:
            record.standing = ticket.reservation.standing
            run = _Run(self, version, outbox, record, ticket, source or self.source)
            tasks = [asyncio.create_task(run.choice(choice)) for choice in choices]
            try:
                yield outbox
            finally:
                await _stop(tasks)
                self.metrics.request_time.observe(time.perf_counter() - run.started)

    def _outbox(self, choices: int) -> Outbox:
        pace_s = self.settings.pace_ms / 1000
        return PacedOutbox(choices, pace_s) if pace_s else Outbox(choices)

    async def watch_upstream(self) -> None:
        """Asks an idle black box now and then whether it is there; runs as long as the app."""
        period = self.settings.upstream_ping_s
        while True:
            await asyncio.sleep(period)
            self.metrics.show_upstreams(self.upstream_members)  # who asks another front-end wants to know, too
            if self.upstream_fault is None and time.monotonic() - self.heard_from_upstream < period:
                continue
            try:
                await self.backends.upstream.ping()
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
    outbox: Outbox
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
            with span("answer", {"deltaserve.choice": choice.index}) as traced:
                async with asyncio.timeout(limit) as clock, self.ticket.place():
                    await self._generate(choice, traced)
        except TimeoutError as late:
            error = UpstreamTimeout(f"The answer was not complete after {limit:g} s.") if clock.expired() else late
        except UpstreamError as fault:
            self.serving.upstream_fault = fault.message if fault.retryable else None
            error = fault
        except NoOffset as none:
            self.serving.metrics.no_offset.inc()
            error = none
        except Exception as other:  # noqa: BLE001  (handed to the request, which raises it)
            error = other
        finally:
            self.outbox.end(error)

    async def _generate(self, choice: Choice, traced: Span) -> None:
        settings = self.serving.settings
        with span("engine.open"):
            session = await self.version.open(settings.queue_timeout_s, choice.pair_prompt)
        stats, upstream = StreamStats(), self.serving.backends.upstream.session()
        try:
            if choice.scored:
                source = await self._score(choice, session, upstream, stats)
            else:
                source = self.source(choice, upstream)
                session.prefetch(choice.prompt_ids)
            if choice.params.max_tokens:
                await self._pump(choice, session, source, stats)
            self.serving._heard()
        finally:
            session.close()
            upstream.close()
            self.serving.metrics.add(stats)
            self.record.add(stats)
            describe_answer(traced, stats)
            self.ticket.reservation.spent(stats.emitted)
            self._bill(upstream.costs, stats)

    def _bill(self, costs: Mapping[str, Cost], stats: StreamStats) -> None:
        """What the black box generated is wasted where the answer has another token, or none."""
        bill = Bill.of(costs, kept=stats.accepted)
        self.serving.metrics.bill(bill)
        self.serving.metrics.show_upstreams(self.serving.upstream_members)
        self.record.bill.add(bill)

    async def _score(
        self, choice: Choice, session: CorrectingSession, upstream: UpstreamSession, stats: StreamStats
    ) -> DraftSource:
        """Sends the prompt's scores ahead. Returns the source of the drafts that may follow."""
        context = self.serving.upstream_context
        scoring = PromptScoring(upstream, choice.prompt_ids, choice.params, choice.policy.tail, stats, context)
        tokens = await scoring.run(session)
        self.serving.metrics.scored_tokens.inc(len(tokens))
        only = choice.params.max_tokens == 0
        await self.outbox.put(choice.index, Piece("", (), "length" if only else None, prompt=tokens))
        return scoring.primed(self.source(choice, upstream))

    async def _stream(self, choice: Choice, session: CorrectingSession, stats: StreamStats) -> Stream:
        tokenizer, constraint = self.version.tokenizer, choice.params.constraint
        return Stream(
            choice.prompt_ids,
            choice.params,
            session,
            tokenizer.detokenizer(choice.prompt_ids, special=choice.special),
            choice.sample,
            stats,
            choice.policy,
            None if constraint is None else await tokenizer.grammars.grammar(constraint),
            choice.wanted,
        )

    async def _pump(self, choice: Choice, session: CorrectingSession, source: DraftSource, stats: StreamStats) -> None:
        stream = await self._stream(choice, session, stats)
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


async def _stop(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels and waits until upstream calls are closed and slots given back, even while being cancelled itself."""
    for task in tasks:
        task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.gather(*tasks, return_exceptions=True)
