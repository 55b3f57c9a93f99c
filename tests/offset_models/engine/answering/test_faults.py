"""What cannot be computed or decided ends one question or one answer: never the engine, and nobody waits for ever."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager

import pytest
import torch
from torch import Tensor

from deltaserve.errors import BlindPosition, ContextLengthExceeded, OffsetUnavailable
from deltaserve.offset_models.engine.answering import answers
from deltaserve.offset_models.engine.answering.row_store import RowStore
from deltaserve.offset_models.engine.deciding.decide import decide
from deltaserve.offset_models.engine.deciding.questions import Question
from deltaserve.offset_models.engine.deciding.resolving import Outcome
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import PairHandle
from deltaserve.offset_models.engine.worker import Call
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Corrector
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, DraftParams, Proposal
from tests.offset_models.engine.tiny_engine import lora_pair, running
from tests.support.models import VOCAB
from tests.support.toy import ToyBlackBox

pytestmark = pytest.mark.anyio
PROMPT = [1, 2, 3, 5, 8]
GREEDY = SamplingParams(max_tokens=24, temperature=0.0)
PATIENCE_S = 20  # a wait of that length is a wait for ever

Served = tuple[Engine, PairHandle]


@asynccontextmanager
async def serving(**changes: object) -> AsyncIterator[Served]:
    async with running(lora_pair(), batch_decisions=True, **changes) as (engine, (handle,)):
        yield engine, handle


@asynccontextmanager
async def correcting(served: Served, prompt: list[int] = PROMPT) -> AsyncIterator[Corrector]:
    engine, handle = served
    session = await engine.open([(handle, 1.0)], timeout_s=5)
    try:
        yield session.corrector(AnswerSpec(prompt, GREEDY))
    finally:
        session.close()


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """The engine's thread takes no message; then it finds all of them at once."""
    going_on = threading.Event()
    engine._worker.inbox.put(Call(lambda: going_on.wait(PATIENCE_S), Future()))
    try:
        yield
    finally:
        going_on.set()


async def proposals(count: int, prompt: Sequence[int] = PROMPT) -> list[Proposal]:
    box = ToyBlackBox(size=VOCAB, k=8)
    async with box.draft(prompt, DraftParams(0.0, count)) as draft:
        return [proposal async for proposal in draft]


async def told(corrector: Corrector, run: Sequence[Proposal]) -> list[int]:
    decisions = await asyncio.wait_for(corrector.decide(run, 0.0), PATIENCE_S)
    return [decision.token_id for decision in decisions]


async def test_a_block_may_follow_a_run_that_became_void_before_its_rows_were_there() -> None:
    async with serving() as served, correcting(served) as corrector:
        first = await told(corrector, (await proposals(1)))
        await corrector.expected()  # the next row is there
        hidden = [Proposal(token_id, NO_IDS, NO_FLOATS) for token_id in range(10)]
        with held(served[0]):
            blind = asyncio.create_task(corrector.decide(hidden, 0.0))
            block = asyncio.create_task(corrector.draft(1))
            await asyncio.sleep(0)
        with pytest.raises(BlindPosition):
            await asyncio.wait_for(blind, PATIENCE_S)
        assert len(await asyncio.wait_for(block, PATIENCE_S)) == 1
        assert await told(corrector, await proposals(1, [*PROMPT, *first]))
        assert served[0].alive


async def test_a_prompt_that_the_pair_has_no_embeddings_for_is_refused() -> None:
    async with serving() as served:
        for beyond in (VOCAB + 10_000, -1):
            with pytest.raises(OffsetUnavailable, match="outside the vocabulary"):
                async with correcting(served, [1, beyond]):
                    pass
        async with correcting(served) as corrector:
            assert await told(corrector, await proposals(1))


async def test_a_block_ends_where_the_context_does() -> None:
    async with serving() as served:
        prompt = [n % VOCAB for n in range(94)]  # of 96
        async with correcting(served, prompt) as corrector:
            assert len(await asyncio.wait_for(corrector.draft(8), PATIENCE_S)) == 3
            tokens: list[int] = []
            with pytest.raises(ContextLengthExceeded):
                while True:
                    tokens += await told(corrector, await proposals(1, [*prompt, *tokens]))
            assert len(tokens) == 3


async def test_a_block_longer_than_the_rows_ahead_is_a_shorter_one() -> None:
    async with serving(max_ahead=3) as served, correcting(served) as corrector:
        assert len(await asyncio.wait_for(corrector.draft(8), PATIENCE_S)) == 4


async def test_an_error_in_a_batch_of_decisions_ends_the_answer_that_caused_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guilty = await proposals(1, [7])

    def failing(base: Tensor, offset: Tensor, questions: Sequence[Question]) -> list[Outcome]:
        if any(question.proposal is guilty[0] for question in questions):
            raise RuntimeError("out of memory")
        return decide(base, offset, questions)

    monkeypatch.setattr(answers, "decide", failing)
    async with serving() as served, correcting(served) as one, correcting(served, [7]) as other:
        with held(served[0]):
            mine = asyncio.create_task(told(one, await proposals(1)))
            theirs = asyncio.create_task(told(other, guilty))
            await asyncio.sleep(0)
        assert await mine
        for asked in (theirs, other.expected()):  # the reason is told again to whoever asks later
            with pytest.raises(OffsetUnavailable, match="could not decide"):
                await asked
        assert served[0].alive


async def test_rows_for_which_there_is_no_memory_end_their_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    put = RowStore.put
    async with serving() as served, correcting(served) as one:
        first = await told(one, await proposals(1))
        await one.expected()

        def full(_self: RowStore, _base: Tensor, _offset: Tensor) -> list[int]:
            raise torch.OutOfMemoryError

        monkeypatch.setattr(RowStore, "put", full)
        async with correcting(served, [7, 8]) as other:
            with pytest.raises(OffsetUnavailable, match="OutOfMemoryError"):
                await told(other, await proposals(1, [7, 8]))
        monkeypatch.setattr(RowStore, "put", put)
        assert await told(one, await proposals(1, [*PROMPT, *first]))
        assert served[0].alive


async def test_more_questions_than_are_decided_at_once_give_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for at_once in (256, 2):
        monkeypatch.setattr(answers, "_AT_ONCE", at_once)
        async with serving() as served, correcting(served) as corrector:
            tokens: list[int] = []
            while len(tokens) < 20:
                tokens += await told(corrector, await proposals(7, [*PROMPT, *tokens]))
            found.append(tokens[:20])
    assert found[0] == found[1]
