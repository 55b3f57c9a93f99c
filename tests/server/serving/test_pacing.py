"""Answers whose tokens leave at a steady pace: no time tells which of them took long. Only lower bounds are held."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import orjson
import pytest

from deltaserve.errors import UpstreamUnreachable
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.serving.outbox import PacedOutbox
from tests.support.app import RunningApp, byte_tokenizer, running_app

PACE_S = 0.02
A, B = Piece("a", ()), Piece("b", ())


async def leaving(outbox: PacedOutbox) -> list[tuple[float, list[tuple[int, Piece]]]]:
    """Seconds since the beginning, and what left then."""
    now = asyncio.get_running_loop().time
    began = now()
    return [(now() - began, batch) async for batch in outbox]


@pytest.mark.anyio
async def test_pieces_that_came_together_leave_one_by_one_of_each_choice_and_not_before_their_ticks() -> None:
    outbox = PacedOutbox(2, PACE_S)
    for index, piece in ((0, A), (0, B), (1, A), (0, A)):
        await outbox.put(index, piece)
    outbox.end(None)
    outbox.end(None)
    left = await leaving(outbox)
    assert [batch for _, batch in left] == [[(0, A), (1, A)], [(0, B)], [(0, A)]]
    assert all(at >= 0.99 * tick * PACE_S for tick, (at, _) in enumerate(left, start=1))


@pytest.mark.anyio
async def test_a_piece_that_comes_between_two_ticks_waits_for_the_next() -> None:
    outbox = PacedOutbox(1, PACE_S)

    async def late() -> None:
        await asyncio.sleep(2.5 * PACE_S)
        await outbox.put(0, A)
        outbox.end(None)

    task = asyncio.create_task(late())
    ((at, batch),) = await leaving(outbox)
    await task
    assert batch == [(0, A)] and at >= 0.99 * 3 * PACE_S


@pytest.mark.anyio
async def test_what_came_before_an_error_is_paced_too_and_delivered_before_it() -> None:
    outbox, seen = PacedOutbox(1, PACE_S), list[list[tuple[int, Piece]]]()
    await outbox.put(0, A)
    await outbox.put(0, B)
    outbox.end(UpstreamUnreachable("gone"))
    with pytest.raises(UpstreamUnreachable):
        while True:
            seen.append(await anext(outbox))
    assert seen == [[(0, A)], [(0, B)]]


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    tokenizer: Tokenizer = byte_tokenizer(Path(tmp_path_factory.mktemp("tokenizer")))
    with running_app(tokenizer, pace_ms=1000 * PACE_S) as running:
        yield running


def ask(app: RunningApp, **fields: Any) -> httpx.Response:
    body = {"prompt": "hello", "max_tokens": 4, "temperature": 0, "ignore_eos": True, **fields}
    return httpx.post(f"{app.url}/v1/completions", json=body, timeout=30)


def test_every_chunk_of_a_paced_stream_has_one_token(paced: RunningApp) -> None:
    answer = ask(paced, stream=True, return_token_ids=True)
    chunks = [orjson.loads(frame[6:]) for frame in answer.content.split(b"\n\n")[:-2]]
    assert [len(chunk["choices"][0]["token_ids"]) for chunk in chunks] == [1] * 4
    assert answer.elapsed.total_seconds() >= 0.99 * 4 * PACE_S


def test_a_whole_answer_takes_as_long_as_a_streamed_one(paced: RunningApp) -> None:
    answer = ask(paced)
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert answer.elapsed.total_seconds() >= 0.99 * 4 * PACE_S


SAID = {"role": "user", "content": "hi"}
ASKED = {
    "/v1/completions": {"prompt": "hello", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [SAID], "max_tokens": 1},
    "/v1/responses": {"input": [SAID], "max_output_tokens": 1},
    "/v1/messages": {"messages": [SAID], "max_tokens": 1},
}


@pytest.mark.parametrize("path", ASKED)
def test_usage_tells_no_calls_of_a_paced_server(paced: RunningApp, path: str) -> None:
    usage = httpx.post(paced.url + path, json=ASKED[path], timeout=30).json()["usage"]
    assert "deltaserve" not in usage and 1 in usage.values()
