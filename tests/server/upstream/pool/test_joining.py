"""Who belongs to a pool, with real HTTP: the same model, or a sentence; and answers that go on elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from deltaserve.errors import UncorrectableUpstream, UpstreamUnreachable
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.stream import Stream, StreamStats
from deltaserve.server.serving.uncorrected import ZeroSession
from deltaserve.server.upstream.http.throttle import Rates, Throttle
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.pool.joining import Applicant, Connected, PoolLimits, open_pool
from deltaserve.server.upstream.pool.pool import Pool
from deltaserve.server.upstream.probing.connect import Prober
from tests.support.fake_upstream import FakeUpstream
from tests.support.process import free_port
from tests.support.replay import Replay, Reply, Request, replaying
from tests.support.table_tokenizer import byte_tokenizer
from tests.support.toy import ToyDetokenizer

pytestmark = pytest.mark.anyio
TOKENIZER = byte_tokenizer()
PROMPT = [72, 101, 108, 108, 111]
EAGER = PoolLimits(patience_s=2.0, join_every_s=0.05)


def applicant(url: str, name: str, k: int = 8) -> Applicant:
    prober = Prober(
        url,
        TOKENIZER,
        None,
        "auto",
        k,
        Timeouts(connect_s=1.0),
        Limits(attempts=1),
        None,
        True,
        True,
        throttle=Throttle(Rates()),
    )
    return Applicant(name, partial(prober.connected, None))


@asynccontextmanager
async def pool_in_front_of(*fakes: Callable[[Request], Reply]) -> AsyncIterator[tuple[Pool, Sequence[Replay]]]:
    async with AsyncExitStack() as stack:
        replays = [await stack.enter_async_context(replaying(fake)) for fake in fakes]
        pool = await open_pool([applicant(one.url, f"box{at}") for at, one in enumerate(replays)], EAGER)
        stack.push_async_callback(pool.aclose)
        yield pool, replays


async def answer(pool: Pool, *, seed: int | None, tokens: int = 24) -> tuple[list[int], StreamStats]:
    params = SamplingParams(max_tokens=tokens, temperature=0.0 if seed is None else 1.0, seed=seed, ignore_eos=True)
    stream = Stream(PROMPT, params, ZeroSession(TOKENIZER.vocab_size), ToyDetokenizer())
    session = pool.session()
    async for _ in decode(stream, UpstreamSource(session)):
        pass
    session.close()
    return stream.ids[len(PROMPT) :], stream.stats


async def test_an_answer_that_is_cut_goes_on_at_another_one_from_its_last_token() -> None:
    fakes = [FakeUpstream("vllm"), FakeUpstream("vllm")]
    async with pool_in_front_of(*fakes) as (pool, replays):
        whole, _ = await answer(pool, seed=None)
        for fake in fakes:
            fake.cut_after = 3
        ids, stats = await answer(pool, seed=None)
        assert ids == whole
        assert stats.upstream_faults == 2
        assert [len(one.bodies()[-1]["prompt"]) > len(PROMPT) for one in replays].count(True) >= 1


@pytest.mark.parametrize("seed", [None, 5, 6])
async def test_answers_are_the_same_while_every_second_call_is_cut_off(seed: int | None) -> None:
    async with pool_in_front_of(FakeUpstream("vllm")) as (alone, _):
        whole, _ = await answer(alone, seed=seed, tokens=60)
    cutting = asyncio.Event()
    async with pool_in_front_of(*(cut_off(FakeUpstream("vllm"), cutting) for _ in range(3))) as (pool, _):
        cutting.set()
        ids, stats = await answer(pool, seed=seed, tokens=60)
        assert ids == whole
        assert stats.upstream_faults > 0


def cut_off(fake: FakeUpstream, cutting: asyncio.Event) -> Callable[[Request], Reply]:
    """Breaks every second one of the longer answers after its first token, from when it is told to."""
    answers = [0]

    def answer(request: Request) -> Reply:
        reply = fake(request)
        if not (cutting.is_set() and (request.body or {}).get("stream") and len(reply.pieces) >= 6):
            return reply
        answers[0] += 1
        return replace(reply, pieces=reply.pieces[:1], cut=True) if answers[0] % 2 else reply

    return answer


async def test_another_model_is_no_start_and_the_sentence_names_both() -> None:
    with pytest.raises(UncorrectableUpstream, match="box1 cannot stand beside box0: it lists other tokens"):
        async with pool_in_front_of(FakeUpstream("vllm"), FakeUpstream("vllm", weights="other")):
            pass


async def test_one_that_lists_fewer_is_no_start_and_the_sentence_says_what_to_set() -> None:
    with pytest.raises(UncorrectableUpstream, match="Set upstream_k to 5"):
        async with pool_in_front_of(FakeUpstream("vllm"), FakeUpstream("vllm", max_k=5)):
            pass


async def test_one_that_cannot_be_corrected_is_named() -> None:
    with pytest.raises(UncorrectableUpstream, match=r"^box1: .*log-probabilities"):
        async with pool_in_front_of(FakeUpstream("vllm"), FakeUpstream("vllm", lists=False)):
            pass


async def test_where_none_is_there_the_first_one_s_absence_is_told() -> None:
    with pytest.raises(UpstreamUnreachable):
        await open_pool([applicant(f"http://127.0.0.1:{free_port()}", f"box{at}") for at in range(2)], EAGER)


async def never() -> Connected:
    await asyncio.Event().wait()
    raise AssertionError


async def test_one_that_hangs_does_not_hold_up_the_others_and_is_told_to_be_absent() -> None:
    async with replaying(FakeUpstream("vllm")) as first:
        applicants = [Applicant("hung", never), applicant(first.url, "box1")]
        pool = await open_pool(applicants, replace(EAGER, late_s=0.05))
        shown = {one["name"]: (one["state"], one["fault"]) for one in pool.members()}
        await pool.aclose()
    assert shown["box1"] == ("serving", None) and shown["hung"][0] == "absent"
    assert "joins when it does" in str(shown["hung"][1])


async def test_one_that_cannot_be_corrected_ends_the_wait_for_others() -> None:
    async def refused() -> Connected:
        raise UncorrectableUpstream("It lists nothing.")

    with pytest.raises(UncorrectableUpstream, match="bad: It lists nothing"):
        await open_pool([Applicant("hung", never), Applicant("bad", refused)], EAGER)


async def test_who_names_ids_matters_where_ids_are_asked_for_by_name() -> None:
    async with pool_in_front_of(FakeUpstream("vllm", names=True), FakeUpstream("vllm")) as (pool, _):
        assert not pool.names_ids
    async with replaying(FakeUpstream("vllm", names=True)) as one, replaying(FakeUpstream("vllm")) as other:
        applicants = [applicant(one.url, "box0"), applicant(other.url, "box1")]
        with pytest.raises(UncorrectableUpstream, match=r"box1 cannot stand beside box0: .*named_ids"):
            await open_pool(applicants, replace(EAGER, names_ids=True))


async def comes_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (what others do)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def one_and_a_place(port: int) -> AsyncIterator[Pool]:
    async with replaying(FakeUpstream("vllm")) as first:
        late = applicant(f"http://127.0.0.1:{port}", "late")
        pool = await open_pool([applicant(first.url, "box0"), late], EAGER)
        try:
            yield pool
        finally:
            await pool.aclose()


async def test_one_that_is_away_joins_when_it_is_there_and_serves() -> None:
    port = free_port()
    async with one_and_a_place(port) as pool:
        await comes_true(lambda: "cannot be reached" in str(pool.members()[1]["fault"]))
        async with replaying(FakeUpstream("vllm"), port=port) as late:
            await comes_true(lambda: pool.members()[1]["state"] == "serving")
            asked = len(late.bodies())
            for _ in range(2):
                await answer(pool, seed=None, tokens=4)
            assert len(late.bodies()) > asked


async def test_one_that_comes_late_with_other_weights_is_kept_out_with_a_sentence_while_others_serve() -> None:
    port = free_port()
    async with one_and_a_place(port) as pool, replaying(FakeUpstream("vllm", weights="other"), port=port):
        await comes_true(lambda: "kept out" in str(pool.members()[1]["fault"]))
        assert pool.problem() is None
        ids, _ = await answer(pool, seed=None, tokens=4)
        assert len(ids) == 4


async def test_a_member_whose_weights_were_changed_and_changed_back_serves_again_while_others_are_busy() -> None:
    fakes = [FakeUpstream("vllm"), FakeUpstream("vllm")]
    async with pool_in_front_of(*fakes) as (pool, replays):
        fakes[1].weights = "other"
        replays[1].drop_connections()
        await comes_true(lambda: "other weights" in str(pool.members()[1]["fault"]))
        asked = len(replays[0].bodies())
        await answer(pool, seed=None, tokens=4)
        assert len(replays[0].bodies()) > asked and pool.problem() is None
        fakes[1].weights = ""
        await comes_true(lambda: pool.members()[1]["state"] == "serving")


async def test_what_a_late_one_has_to_be_like_does_not_change_with_a_member_that_was_restarted() -> None:
    port = free_port()
    async with one_and_a_place(port) as pool:
        box = pool._members[0].box
        box.adopt(replace(box.capabilities, k=5))  # as it is after it was started anew with a lower limit
        async with replaying(FakeUpstream("vllm", max_k=5), port=port):
            await comes_true(lambda: "kept out" in str(pool.members()[1]["fault"]))
    assert "5, where the others have 8" in str(pool.members()[1]["fault"])


async def test_one_whose_pages_are_not_understood_does_not_keep_others_from_joining() -> None:
    tries = [0]

    async def strange() -> Connected:
        tries[0] += 1
        if tries[0] == 1:
            raise UpstreamUnreachable("It is away.")
        raise AttributeError("'str' object has no attribute 'get'")

    port = free_port()
    async with replaying(FakeUpstream("vllm")) as first:
        late = applicant(f"http://127.0.0.1:{port}", "late")
        pool = await open_pool([applicant(first.url, "box0"), Applicant("odd", strange), late], EAGER)
        try:
            await comes_true(lambda: "AttributeError" in str(pool.members()[1]["fault"]))
            async with replaying(FakeUpstream("vllm"), port=port):
                await comes_true(lambda: [each["name"] for each in pool.members()][1] == "late")
        finally:
            await pool.aclose()
