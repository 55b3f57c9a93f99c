"""After a lost connection it is known who answers before anything is asked; without one nothing more is asked."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from deltaserve.errors import UpstreamChanged, UpstreamError, UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.continuity import Continuity, Difference
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.probing.connect import connect
from deltaserve.server.upstream.probing.identity import OTHER_WEIGHTS
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import Replay, Reply, Request, json_reply, replaying
from tests.support.table_tokenizer import byte_tokenizer

pytestmark = pytest.mark.anyio

LOOK = 2  # calls
QUICK: dict[str, Any] = {"timeouts": Timeouts(first_token_s=5.0), "limits": Limits(attempts=3), "k": 8}


@asynccontextmanager
async def connected(fake: Callable[[Request], Reply], **options: Any) -> AsyncIterator[tuple[CompletionsBox, Replay]]:
    async with replaying(fake) as replay:
        box = await connect(replay.url, tokenizer=byte_tokenizer(), **(QUICK | options))
        replay.requests.clear()
        try:
            yield box, replay
        finally:
            await box.aclose()


async def drafted(box: CompletionsBox, tokens: int = 2, temperature: float = 0.0) -> list[Proposal]:
    async with box.draft([97, 98], DraftParams(temperature, tokens)) as draft:
        return [proposal async for proposal in draft]


async def restarted(box: CompletionsBox, replay: Replay) -> None:
    """Every connection is cut, and the box has heard of it."""
    continuity = continuity_of(box)
    before = continuity._losses
    replay.drop_connections()
    await until(lambda: continuity._losses > before)


async def settled(box: CompletionsBox, *, known: bool) -> None:
    await until(lambda: (box.problem() is None) == known)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (what it looks at has no event)
            await asyncio.sleep(0.001)


def continuity_of(box: CompletionsBox) -> Continuity:
    continuity = box._transport.continuity
    assert continuity is not None
    return continuity


async def test_without_a_lost_connection_nothing_is_asked_but_the_drafts() -> None:
    async with connected(FakeUpstream("vllm")) as (box, replay):
        for _ in range(5):
            await drafted(box)
        async with box.draft([97], DraftParams(0.0, 50)) as draft:
            await anext(aiter(draft))  # and then the client leaves
        await drafted(box)
        assert len(replay.bodies()) == 7


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp", "openai"])
async def test_the_same_weights_go_on_after_one_look(dialect: Dialect) -> None:
    fake = FakeUpstream(dialect, vocab_size=256, max_k=8 if dialect == "openai" else 256)
    async with connected(fake) as (box, replay):
        before = await drafted(box)
        await restarted(box, replay)
        after = await drafted(box)
        assert [p.token_id for p in after] == [p.token_id for p in before]
        assert len(replay.bodies()) == 2 + LOOK
        await drafted(box)
        assert len(replay.bodies()) == 3 + LOOK


async def test_many_calls_wait_for_one_look() -> None:
    async with connected(FakeUpstream("vllm")) as (box, replay):
        await restarted(box, replay)
        await asyncio.gather(*[drafted(box) for _ in range(8)])
        assert len(replay.bodies()) == 8 + LOOK


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp", "openai"])
async def test_nothing_is_answered_by_other_weights_until_the_first_ones_are_back(dialect: Dialect) -> None:
    fake = FakeUpstream(dialect, vocab_size=256, max_k=8 if dialect == "openai" else 256)
    async with connected(fake) as (box, replay):
        first = await drafted(box)
        fake.weights = "other"
        await restarted(box, replay)
        for _ in range(3):
            with pytest.raises(UpstreamChanged, match="other weights") as caught:
                await drafted(box)
        assert caught.value.status == 503 and caught.value.retryable
        assert "other weights" in (box.problem() or "")
        fake.weights = ""
        await restarted(box, replay)
        await settled(box, known=True)
        assert [p.token_id for p in await drafted(box)] == [p.token_id for p in first]


async def test_other_weights_are_looked_at_again_by_each_ping() -> None:
    fake = FakeUpstream("vllm")
    async with connected(fake) as (box, replay):
        fake.weights = "other"
        await restarted(box, replay)
        with pytest.raises(UpstreamChanged):
            await box.ping()
        fake.weights = ""
        await box.ping()
        assert box.problem() is None and len(await drafted(box)) == 2


@pytest.mark.parametrize("first", [False, True], ids=["raw first", "processed first"])
async def test_another_logprobs_mode_is_learned_and_obeyed(first: bool) -> None:
    fake = FakeUpstream("vllm", processed=first)
    async with connected(fake) as (box, replay):
        assert box.capabilities.raw_logprobs is not first
        fake.processed = not first
        await restarted(box, replay)
        with pytest.raises(UpstreamChanged, match="temperature"):
            await drafted(box)
        await settled(box, known=True)
        assert box.capabilities.raw_logprobs is first
        replay.requests.clear()
        await drafted(box, temperature=0.5)
        assert [body["temperature"] for body in replay.bodies()] == [0.5 if first else 1.0]


@pytest.mark.parametrize("refused", [1, 2, 3])
async def test_a_look_that_met_a_refusal_is_repeated_before_it_counts_as_another_server(refused: int) -> None:
    fake, left = FakeUpstream("vllm"), 0

    def answered(request: Request) -> Reply:
        nonlocal left
        if left and request.path == "/v1/completions":
            left -= 1
            return json_reply({"error": {"message": "no", "code": 400}}, 400)
        return fake(request)

    async with connected(answered) as (box, replay):
        left = refused
        await restarted(box, replay)
        if refused == 3:
            with pytest.raises(UpstreamChanged):
                await box.ping()
        else:
            await box.ping()
            assert len(await drafted(box)) == 2
        assert not left


async def test_a_smaller_limit_is_learned_and_obeyed() -> None:
    fake = FakeUpstream("vllm")
    async with connected(fake) as (box, replay):
        fake.max_k = 5
        await restarted(box, replay)
        with pytest.raises(UpstreamChanged, match="at most 5"):
            await drafted(box)
        await settled(box, known=True)
        assert (box.capabilities.k, box.capabilities.max_k) == (5, 5)
        assert all(len(p.top_ids) == 5 for p in await drafted(box))


async def test_a_longer_list_is_no_other_black_box() -> None:
    fake = FakeUpstream("vllm", max_k=5)
    async with connected(fake) as (box, replay):
        fake.max_k, fake.processed = 20, True
        await restarted(box, replay)
        with pytest.raises(UpstreamChanged):
            await drafted(box)
        await settled(box, known=True)
        assert box.capabilities.k == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": 1.5}, "not what|other weights|more than one|leaves out more"),
        ({"shift": 9.0}, "not normalised"),
        ({"template": (1, 2)}, "other weights"),
        ({"lists": False}, "no log-probabilities"),
        ({"vocab_size": 300}, "other weights|does not have"),
        ({"weights": "x", "processed": True}, "other weights"),
    ],
)
async def test_a_black_box_that_cannot_be_corrected_any_more_stays_unavailable(
    change: dict[str, Any], words: str
) -> None:
    fake = FakeUpstream("vllm")
    async with connected(fake) as (box, replay):
        for name, value in change.items():
            setattr(fake, name, value)
        await restarted(box, replay)
        with pytest.raises(UpstreamChanged, match=words):
            await drafted(box)
        if (learning := continuity_of(box)._learning) is not None:
            await learning
        with pytest.raises(UpstreamChanged, match=words):
            await drafted(box)


async def test_a_model_of_another_name_is_not_taken_for_the_first() -> None:
    fake = FakeUpstream("vllm")
    async with connected(fake) as (box, replay):
        fake.name = "other"
        await restarted(box, replay)
        with pytest.raises(UpstreamChanged, match="no model named tiny"):
            await drafted(box)


@pytest.mark.parametrize("jitter", [0.02, 0.1])
async def test_the_noise_of_batches_is_no_change(jitter: float) -> None:
    fake = FakeUpstream("vllm", jitter=jitter)
    async with connected(fake) as (box, replay):
        for _ in range(5):
            await restarted(box, replay)
            assert len(await drafted(box)) == 2


async def test_half_a_nat_between_a_cached_and_a_computed_prompt_is_no_change() -> None:
    fake = FakeUpstream("llamacpp", vocab_size=256, max_k=256, jitter=0.28)
    async with connected(fake) as (box, replay):
        for _ in range(5):
            await restarted(box, replay)
            assert len(await drafted(box)) == 2


class Breaking:
    """A black box that cuts a stream after its first token and has other weights from then on, or the same."""

    def __init__(self, fake: FakeUpstream, then: str) -> None:
        self.fake, self.then = fake, then
        self.armed = False

    def __call__(self, request: Request) -> Reply:
        if self.armed and request.path == "/v1/completions":
            self.armed = False
            whole = self.fake(request)
            self.fake.weights = self.then
            return Reply(whole.pieces[:1], cut=True)
        return self.fake(request)


@pytest.mark.parametrize("then", ["", "other"])
async def test_a_broken_answer_goes_on_only_where_the_same_weights_answer(then: str) -> None:
    breaking = Breaking(FakeUpstream("vllm"), then)
    async with connected(breaking) as (box, replay):
        breaking.armed = True
        seen: list[int | None] = []
        with pytest.raises(UpstreamUnreachable):
            async with box.draft([97], DraftParams(0.0, 4)) as draft:
                async for proposal in draft:
                    seen.append(proposal.token_id)  # noqa: PERF401  (they are wanted although an error ends it)
        assert len(seen) == 1
        if then:
            with pytest.raises(UpstreamChanged):
                await drafted(box)
        else:
            await drafted(box)
            assert len(replay.bodies()) == 1 + LOOK + 1


@pytest.mark.parametrize(
    "reply",
    [Reply([], cut=True), Reply([b"<html>"], 502, "text/html"), Reply([b"<html>"], 503, "text/html")],
    ids=["cut", "502", "503 of a proxy"],
)
async def test_an_attempt_that_found_nobody_is_followed_by_a_look_before_the_next(reply: Reply) -> None:
    fake, failing = FakeUpstream("vllm"), [reply]

    def answer(request: Request) -> Reply:
        if request.path == "/v1/completions" and failing and box_is_there:
            fake.weights = "other"
            return failing.pop()
        return fake(request)

    box_is_there: list[bool] = []
    async with connected(answer) as (box, _):
        box_is_there.append(True)
        with pytest.raises(UpstreamChanged):
            await drafted(box)


async def test_a_busy_server_is_no_lost_connection() -> None:
    fake = FakeUpstream("vllm")
    busy = [Reply([b'{"error":{"message":"x","type":"Busy"}}'], 503, "application/json", {"retry-after": "0"})]
    async with connected(lambda r: busy.pop() if armed and busy and "compl" in r.path else fake(r)) as (box, replay):
        armed.append(True)
        assert len(await drafted(box)) == 2
        assert len(replay.bodies()) == 2
    armed.clear()


armed: list[bool] = []


async def test_a_server_that_is_away_is_a_problem_until_it_is_back() -> None:
    fake = FakeUpstream("vllm")
    async with replaying(fake) as replay:
        box = await connect(replay.url, tokenizer=byte_tokenizer(), **QUICK)
        port = int(replay.url.rsplit(":", 1)[1])
    await settled(box, known=False)
    with pytest.raises(UpstreamError):
        await drafted(box)
    async with replaying(fake, port=port):
        await settled(box, known=True)
        assert len(await drafted(box)) == 2
        await box.aclose()


class Looks:
    """A look that ends when it is told to, and counts how often it began."""

    def __init__(self) -> None:
        self.began = 0
        self.says: asyncio.Queue[Difference | UpstreamError | None] = asyncio.Queue()

    async def __call__(self) -> Difference | None:
        self.began += 1
        said = await self.says.get()
        if isinstance(said, UpstreamError):
            raise said
        return said


@asynccontextmanager
async def looking() -> AsyncIterator[tuple[Continuity, Looks]]:
    async def nothing() -> None:
        return None

    looks = Looks()
    continuity = Continuity(looks, nothing, nothing)
    try:
        yield continuity, looks
    finally:
        await continuity.aclose()


async def test_a_call_waits_for_the_losses_that_it_knows_and_not_for_later_ones() -> None:
    async with looking() as (continuity, looks):
        continuity.lost()
        waiting = asyncio.create_task(continuity.settled())
        await until(lambda: looks.began == 1)
        continuity.lost()  # of another call, after the look began
        looks.says.put_nowait(None)
        await waiting
        assert continuity.doubtful
        later = asyncio.create_task(continuity.settled())
        await until(lambda: looks.began == 2)
        assert not later.done()
        looks.says.put_nowait(None)
        await later
        assert not continuity.doubtful


async def test_a_look_that_began_before_the_loss_is_not_enough() -> None:
    async with looking() as (continuity, looks):
        continuity.lost()
        await until(lambda: looks.began == 1)
        continuity.lost()
        waiting = asyncio.create_task(continuity.settled())
        looks.says.put_nowait(None)
        await until(lambda: looks.began == 2)
        assert not waiting.done()
        looks.says.put_nowait(OTHER_WEIGHTS)
        with pytest.raises(UpstreamChanged):
            await waiting


class SpoilsOne:
    """The black box, but for one answer once it is armed."""

    def __init__(self, fake: FakeUpstream, spoil: Callable[[Reply], Reply]) -> None:
        self.fake, self.spoil = fake, spoil
        self.armed = False

    def __call__(self, request: Request) -> Reply:
        reply = self.fake(request)
        if self.armed and request.path == "/v1/completions":
            self.armed = False
            return self.spoil(reply)
        return reply


def above_zero(reply: Reply) -> Reply:
    """Its lists are wrong: a log-probability above zero."""
    whole = b"".join(piece for piece in reply.pieces if isinstance(piece, bytes))
    return replace(reply, pieces=[re.sub(rb'(token_id:\d+":) ?-[0-9.e-]+', rb"\g<1>0.5", whole)])


async def test_one_wrong_list_in_a_look_is_no_other_black_box() -> None:
    faulty = SpoilsOne(FakeUpstream("vllm"), above_zero)
    async with connected(faulty) as (box, replay):
        faulty.armed = True
        await restarted(box, replay)
        assert len(await drafted(box)) == 2
        assert not faulty.armed and box.problem() is None
