"""A front-end's side and the engine's, over a real socket in one event loop: what one asks is what the other does."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import (
    BadRequest,
    Conflict,
    KeyLimited,
    ModelNotFound,
    OffsetUnavailable,
    RateLimited,
    Unavailable,
)
from deltaserve.offset_models.bridge.bridges import Bridges
from deltaserve.offset_models.registry.audit import Actor
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.weights import WeightsPool
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.constraints.compiling import GrammarCompiler
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.early_calls import EarlyCall, Records
from deltaserve.server.decoding.drafting.local import verified_block
from deltaserve.server.decoding.drafting.naming import Namer
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Naming, Policy
from deltaserve.server.decoding.scoring import score
from deltaserve.server.decoding.stream import Step, Stream
from deltaserve.server.observability.logs import logger
from deltaserve.server.processes.engine.connection import FrontEnd
from deltaserve.server.processes.frontend import link
from deltaserve.server.processes.frontend.registry import BUSY_S, RemoteRegistry, RemoteReservation
from deltaserve.server.serving.admission.accounts import Clock
from deltaserve.server.serving.admission.clients import ANYBODY, Client, Left
from deltaserve.server.serving.admission.places import LocalPlaces
from deltaserve.server.serving.local_registry import LocalRegistry
from deltaserve.server.serving.ports import Version
from tests.support.letters import END, Letters, compiled, regex
from tests.support.offsets import BookkeepingEngine, lora_checkpoint
from tests.support.toy import ToyBlackBox, ToyDetokenizer, ToyNames, ToySession, toy_stream
from tests.support.vocabularies import sentencepiece_like

pytestmark = pytest.mark.anyio
WHO = Actor("key", "req-1")


@dataclass
class ToyEngine(BookkeepingEngine):
    """Its sessions are those of the toy world, but for the canary's."""

    made: list[ToySession] = field(default_factory=list)

    async def open(self, parts: Any, timeout_s: float, *, gated: bool = True) -> Any:
        if not gated:
            return await super().open(parts, timeout_s, gated=gated)
        self.sessions += 1
        session = ToySession(strength=sum(alpha for _, alpha in parts))
        session.close = self._close  # type: ignore[method-assign]
        self.made.append(session)
        return session

    def _close(self) -> None:
        self.sessions -= 1


@dataclass
class Site:
    engine: ToyEngine
    offsets: Registry
    server: asyncio.Server
    connections: list[FrontEnd]
    path: Path

    @asynccontextmanager
    async def front_end(self, now: Clock = time.monotonic) -> AsyncIterator[RemoteRegistry]:
        remote = RemoteRegistry(self.path, now)
        task = asyncio.create_task(remote.link.run())
        try:
            async with asyncio.timeout(10):
                await remote.link.wait()
            yield remote
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def site(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Two loaded offsets, `a` active; two places, one choice may wait."""
    lora_checkpoint(tmp_path / "root", "a", seed=1)
    lora_checkpoint(tmp_path / "root", "b", seed=5, strength=0.5)
    engine = ToyEngine()
    offsets = Registry(WeightsPool(engine, tmp_path / "root"), root=tmp_path / "root", served="toy", folder=tmp_path)
    await offsets.start("a")
    await offsets.load("b", "b")
    places, local = LocalPlaces(2, 1, now=lambda: 0.0), LocalRegistry(offsets)
    connections: list[FrontEnd] = []

    def connected() -> Any:
        connections.append(FrontEnd(local, places, logger()))
        return connections[-1].wire

    path = tmp_path_factory.mktemp("s") / "s"
    server = await asyncio.get_running_loop().create_unix_server(connected, str(path))
    yield Site(engine, offsets, server, connections, path)
    server.close()
    await offsets.close()


async def test_a_prompt_for_a_pair_of_another_tokenizer_is_written_by_the_front_end(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    box, engine = Tokenizer.load(sentencepiece_like(tmp_path / "box")), ToyEngine()
    lora_checkpoint(tmp_path / "root", "a", seed=1)
    pool = WeightsPool(engine, tmp_path / "root", bridges=Bridges(box))
    offsets = Registry(pool, root=tmp_path / "root", served="toy", folder=tmp_path)
    await offsets.start("a")
    path = tmp_path_factory.mktemp("s") / "s"
    local, places = LocalRegistry(offsets), LocalPlaces(2, 1)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: FrontEnd(local, places, logger()).wire, str(path))
    site = Site(engine, offsets, server, [], path)
    async with site.front_end() as remote, remote.pinned(None) as version:
        pair = offsets.resolve(None).pair_tokenizer
        assert version.tokenizer.fingerprint == box.fingerprint
        assert version.pair_tokenizer is not None and pair is not None
        assert version.pair_tokenizer.fingerprint == pair.fingerprint
        session = await version.open(1.0, [7, 8])
        prefetched: list[list[int]] = []
        engine.made[0].prefetch = prefetched.append  # type: ignore[method-assign,assignment]
        session.prefetch([1, 2, 3])
        await until(lambda: prefetched == [[7, 8]])
        session.close()
    server.close()
    await offsets.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (of another task)
            await asyncio.sleep(0.005)


def params(**more: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 24, **more})


SEEDED = {"temperature": 0.8, "seed": 5}
KINDS: dict[str, tuple[SamplingParams, Policy]] = {
    "greedy": (params(temperature=0.0), Policy()),
    "seeded": (params(**SEEDED, top_logprobs=3), Policy(tail="truncate")),
    "penalised": (
        params(**SEEDED, repetition_penalty=1.3, frequency_penalty=0.4, logit_bias={4: 2.0}, top_p=0.9, top_k=8),
        Policy(),
    ),
    "guarded and explained": (params(**SEEDED), Policy(guard=Guard(kl_nats=0.01, temperature=0.0), explain=4)),
    "greedy, named": (params(temperature=0.0), Policy(naming=Naming(tail=0.1, certify=True, most=5))),
    "going on, named": (
        params(temperature=0.0),
        Policy(naming=Naming(tail=0.1, certify=True, most=5, ahead=3)),
    ),
    "seeded, named": (params(**SEEDED), Policy(naming=Naming(tail=0.1, most=5))),
    "held to a grammar": (params(**SEEDED, constraint=regex("a(bcd|[e-k]*)a"), eos_ids=frozenset({END})), Policy()),
    "held to one later": (
        params(**SEEDED, constraint=regex("[a-c]*d", after=(3,)), eos_ids=frozenset({END})),
        Policy(),
    ),
    "held to one now or later": (
        params(**SEEDED, constraint=replace(regex("[a-c]*d", after=(3,)), opens=4), eos_ids=frozenset({END})),
        Policy(),
    ),
    "ending": (params(temperature=0.0, eos_ids=frozenset({2, 3}), min_tokens=4, stop=("xyz",)), Policy()),
}


async def steps_of(stream: Stream, box: ToyBlackBox) -> list[Step]:
    early_call = None if stream.policy.naming else EarlyCall(box, Records())  # it draws, at times of its own
    source = UpstreamSource(box, early_call=early_call, namer=Namer(ToyNames(goes_on=True)))
    async with aclosing(decode(stream, source)) as steps:
        return [step async for step in steps]


def told(step: Step) -> tuple[Any, ...]:
    """A step with its arrays as lists."""
    top = None if step.top is None else [part.tolist() for part in step.top]
    shown = step.explanation
    explained = None if shown is None else (shown.kl_nats, shown.ids.tolist(), shown.after.tolist())
    held = step.forced, step.ends
    return step.token_id, step.proposed_id, step.certified, step.tail_mass, step.logprob, top, explained, held


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("burst", [1, 4])
async def test_a_stream_over_the_wire_gives_what_it_gives_beside_its_rows(
    site: Site, kind: str, burst: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, policy = KINDS[kind]
    grammar = None if wanted.constraint is None else compiled(wanted.constraint)
    expected = await steps_of(toy_stream(wanted, policy=policy, grammar=grammar), ToyBlackBox(burst=burst))
    monkeypatch.setattr(Tokenizer, "grammars", GrammarCompiler(Letters()))
    async with site.front_end() as remote, remote.pinned("toy") as version:
        session = await version.open(1.0)
        stream = Stream([1, 2, 3], wanted, session, ToyDetokenizer(), policy=policy)
        assert [told(s) for s in await steps_of(stream, ToyBlackBox(burst=burst))] == [told(s) for s in expected]
        assert stream.params.stop == wanted.stop
        assert (stream.stats.named_calls > 0) is (policy.naming is not None)
        session.close()


async def test_what_the_pair_lifts_most_is_told_over_the_wire(site: Site) -> None:
    policy = Policy(naming=Naming(tail=0.1, most=3))
    expected = await toy_stream(params(), policy=policy).corrector.lifted()
    async with site.front_end() as remote, remote.pinned("toy") as version:
        session = await version.open(1.0)
        told = await Stream([1, 2, 3], params(), session, ToyDetokenizer(), policy=policy).corrector.lifted()
        assert told.tolist() == expected.tolist() != []
        session.close()


async def test_a_block_of_the_pair_is_drafted_and_decided_in_the_engine_process(site: Site) -> None:
    async def block(stream: Stream) -> tuple[list[int], list[int]]:
        drafted = await stream.corrector.draft(4)
        draft = await verified_block(stream, ToyBlackBox(), drafted)
        decisions = await stream.corrector.decide(draft.arrived(), draft.temperature, observed=True)
        assert decisions[0].agreement is not None
        return drafted, [decision.token_id for decision in decisions]

    expected = await block(toy_stream(params(**SEEDED)))
    async with site.front_end() as remote, remote.pinned(None) as version:
        session = await version.open(1.0)
        assert await block(Stream([1, 2, 3], params(**SEEDED), session, ToyDetokenizer())) == expected


async def test_a_text_is_scored_as_it_is_beside_the_rows(site: Site) -> None:
    text, box = [1, 2, 3, 4, 5, 6, 7], ToyBlackBox()

    async def lists() -> AsyncIterator[list[Any]]:
        for at in range(1, len(text)):
            block = await box.block(text[:at], [], params())  # type: ignore[arg-type]
            yield [block.proposals[0]]

    expected = await score(text, lists(), ToySession(), "impute", 2)
    async with site.front_end() as remote, remote.pinned(None) as version:
        got = await score(text, lists(), await version.open(1.0), "impute", 2)
    assert [(t.token_id, t.logprob) for t in got] == [(t.token_id, t.logprob) for t in expected]
    assert [t.top and t.top[0].tolist() for t in got] == [t.top and t.top[0].tolist() for t in expected]


async def test_the_engine_process_decides_which_version_answers(site: Site) -> None:
    async with site.front_end() as one, site.front_end() as other:
        async with one.pinned("toy") as before:
            await other.activate("b", actor=WHO)
            async with one.pinned("toy") as after, other.pinned(None) as there:
                assert (before.name, after.name, there.name) == ("a", "b", "b")
                assert after.fingerprint == there.fingerprint == site.offsets.resolve(None).fingerprint
                assert after.tokenizer is before.tokenizer  # both have the base's: it is loaded once
        assert [(name, version.name) for name, _, version in await one.cards()] == [("toy", "b"), ("toy@a", "a")]
        with pytest.raises(ModelNotFound, match="toy@none"):
            async with one.pinned("toy@none"):
                pass


async def test_the_name_that_clients_use_is_told_again_to_an_engine_that_was_started_again(site: Site) -> None:
    async with site.front_end() as remote:
        await remote.serve_as("served")
        site.offsets.served = "toy"  # as a new process would have it
        site.connections[0].wire.close()
        await until(lambda: len(site.connections) == 2 and remote.alive)
        async with remote.pinned("served") as version:
            assert version.name == "a"


async def test_operators_see_and_change_what_the_engine_process_holds(site: Site) -> None:
    async with site.front_end() as remote:
        assert (await remote.listing())["active"] == "a"
        shown = await remote.set_strength("b", 0.25, actor=WHO)
        assert (shown["name"], shown["strength"], shown["state"]) == ("b", 0.25, "ready")
        added = await remote.sum("both", {"a": None, "b": 2.0}, activate=True, actor=WHO)
        assert added["state"] == "active"
        assert (await remote.rollback(actor=WHO))["previous"] == "both"
        assert (await remote.unload("both", actor=WHO))["state"] in ("unloaded", "draining")
        assert await remote.add("b", "b", strength=0.25, activate=False, wait=True, actor=WHO) is not None
        newest = (await remote.audit(1, None))["data"][0]
        assert (newest["action"], newest["key_id"], newest["request_id"]) == ("unload", "key", "req-1")
        with pytest.raises(Conflict):
            await remote.unload("a", actor=WHO)
        alone = await remote.fleet()
        assert (alone["store"], alone["active"], len(alone["replicas"])) == (None, "a", 1)
        with pytest.raises(BadRequest, match="not a replica of a fleet"):
            await remote.activate("b", quorum=2, actor=WHO)


def reserved(registry: RemoteRegistry, count: int) -> AbstractAsyncContextManager[RemoteReservation]:
    return registry.reserved(ANYBODY, count, 0)


async def test_places_are_those_of_all_front_ends_together(site: Site) -> None:
    async with site.front_end() as one, site.front_end() as other:
        async with reserved(one, 2) as first, first.place(1.0), reserved(other, 1) as second, second.place(1.0):
            with pytest.raises(RateLimited, match="too many requests"):
                await reserved(other, 1).__aenter__()
            with pytest.raises(RateLimited, match=r"0\.01 s"):
                await first.place(0.01).__aenter__()
        with pytest.raises(BadRequest):
            await reserved(one, 4).__aenter__()
        async with reserved(other, 3) as third, third.place(1.0), third.place(1.0):
            pass


async def test_after_a_refusal_the_engine_process_is_asked_for_room_before_a_body_is_read(site: Site) -> None:
    now = 0.0
    async with site.front_end(lambda: now) as one, site.front_end() as other:
        async with reserved(other, 3):
            await one.check_room(ANYBODY)  # nobody has been refused: not asked
            with pytest.raises(RateLimited):
                await reserved(one, 1).__aenter__()
            with pytest.raises(RateLimited, match="too many requests"):
                await one.check_room(ANYBODY)
            now = BUSY_S
            await one.check_room(ANYBODY)
            now = BUSY_S / 2
        await until(lambda: not any(connection._reservations for connection in site.connections))
        await one.check_room(ANYBODY)
    await one.check_room(ANYBODY)  # an engine that is away is told of later


async def test_the_limits_of_a_key_are_those_of_all_front_ends_together(site: Site) -> None:
    key = Client("alice", streams=2, requests_per_minute=2, tokens_per_minute=100)
    async with site.front_end() as one, site.front_end() as other:
        assert (await one.request(key)).requests == Left(2, 1, 30.0)
        assert (await other.request(key)).wait_s is None
        assert (await one.request(key)).wait_s == 30.0
        async with one.reserved(key, 2, 10) as reservation:
            assert reservation.standing.tokens == Left(100, 90, pytest.approx(6))
            with pytest.raises(KeyLimited, match="2 answers under way"):
                await other.reserved(key, 1, 1).__aenter__()
            reservation.spent(150)
        await until(lambda: not any(connection._reservations for connection in site.connections))
        with pytest.raises(KeyLimited, match="100 tokens a minute") as refused:
            await other.reserved(key, 1, 1).__aenter__()
        assert refused.value.retry_after_s == pytest.approx(36.6)


async def test_what_a_lost_front_end_held_is_given_back(site: Site) -> None:
    async with site.front_end() as one:
        held = await reserved(one, 3).__aenter__()
        await held.place(1.0).__aenter__()
        version: Version = await one.pinned("toy@b").__aenter__()
        await version.open(1.0)
        await site.offsets.unload("b")
        assert site.engine.sessions == 1 and len(site.engine.loaded) == 2
    await until(lambda: site.engine.sessions == 0 and len(site.engine.loaded) == 1)
    async with site.front_end() as other, reserved(other, 3) as all_three, all_three.place(1.0), all_three.place(1.0):
        pass


async def test_a_wait_that_is_cancelled_takes_no_place(site: Site) -> None:
    async with site.front_end() as front_end, reserved(front_end, 3) as remote:
        async with remote.place(1.0), remote.place(1.0):
            waiting = asyncio.create_task(remote.place(None).__aenter__())
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with remote.place(1.0), remote.place(1.0):
            pass


async def test_when_the_engine_is_lost_what_waits_fails_and_later_calls_do_too(site: Site) -> None:
    async with site.front_end() as remote, remote.pinned(None) as version:
        session = await version.open(1.0)
        stream = Stream([1, 2, 3], params(), session, ToyDetokenizer())
        site.engine.gate = asyncio.Event()  # never set: a load that waits
        await site.offsets.unload("b")
        loading = asyncio.create_task(remote.add("b", "b", strength=None, activate=False, wait=True, actor=WHO))
        await asyncio.sleep(0.05)
        site.server.close()
        site.connections[0].wire.close()
        with pytest.raises(OffsetUnavailable, match="started again"):
            await loading
        assert not remote.alive
        with pytest.raises(OffsetUnavailable):
            await steps_of(stream, ToyBlackBox())
        with pytest.raises(OffsetUnavailable):
            await version.open(1.0)
        with pytest.raises(Unavailable):
            await remote.pinned(None).__aenter__()
        assert await remote.engine_stats() == {}
        session.close()
        site.engine.gate.set()


async def test_an_engine_that_hangs_fails_what_waits_for_it_and_is_used_again_when_it_answers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "PING_EVERY_S", 0.01)
    monkeypatch.setattr(link, "ANSWERS_WITHIN_S", 0.3)
    async with site.front_end() as remote:
        async with remote.pinned(None):
            pass
        monkeypatch.setattr(site.connections[0].wire, "send", lambda _message: None)
        async with asyncio.timeout(10):
            with pytest.raises(OffsetUnavailable, match="does not answer"):
                await remote.pinned(None).__aenter__()
        assert not remote.alive
        with pytest.raises(OffsetUnavailable, match="does not answer"):
            remote.link.connection  # noqa: B018
        async with asyncio.timeout(10):
            await remote.link.wait()
        async with remote.pinned(None) as version:
            assert version.fingerprint


async def test_a_connection_that_is_taken_and_not_answered_is_not_used(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ANSWERS_WITHIN_S", 0.05)
    monkeypatch.setattr(FrontEnd, "_received", lambda _self, _message: None)
    registry = RemoteRegistry(site.path)
    task = asyncio.create_task(registry.link.run())
    await until(lambda: len(site.connections) > 2)
    assert not registry.alive
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_stream_fails_as_its_rows_do(site: Site) -> None:
    async with site.front_end() as remote, remote.pinned(None) as version:
        session = await version.open(1.0)
        stream = Stream([1, 2, 3], params(temperature=0.0), session, ToyDetokenizer())
        site.engine.made[-1].fails = OffsetUnavailable("no row")
        with pytest.raises(OffsetUnavailable, match="no row"):
            await steps_of(stream, ToyBlackBox())
        session.close()
        await until(lambda: site.engine.sessions == 0)


async def test_a_stream_that_cannot_begin_fails_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(*_: Any) -> Any:
        raise BadRequest("no such prompt")

    async with site.front_end() as remote, remote.pinned(None) as version:
        good = Stream([1, 2, 3], params(temperature=0.0), await version.open(1.0), ToyDetokenizer())
        await good.corrector.expected()  # it has begun
        monkeypatch.setattr(ToySession, "corrector", impossible)
        bad = Stream([1, 2, 3], params(), await version.open(1.0), ToyDetokenizer())
        with pytest.raises(BadRequest, match="no such prompt"):
            await steps_of(bad, ToyBlackBox())
        assert len(await steps_of(good, ToyBlackBox())) == 24


async def test_what_cannot_be_told_to_the_engine_fails_alone(site: Site) -> None:
    async with site.front_end() as remote, asyncio.timeout(10):
        other = asyncio.create_task(remote.listing())
        with pytest.raises(OverflowError):
            await remote.audit(1, 10**30)
        assert (await other)["active"] == "a"


async def test_a_tokenizer_that_changed_on_disk_is_not_used(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "root" / "base" / "tokenizer_config.json"
    config.write_text('{"chat_template": "other"}')
    async with site.front_end() as remote:
        with pytest.raises(OffsetUnavailable, match="no longer the one"):
            await remote.pinned(None).__aenter__()
