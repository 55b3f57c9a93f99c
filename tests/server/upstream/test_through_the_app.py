"""Odd answers and other weights, seen by a client: no token that is not the best one of the lists, ever."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.errors import UncorrectableUpstream
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.app import Build, create_app
from deltaserve.server.serving.ports import Backends, Registry
from deltaserve.server.settings import Settings
from deltaserve.server.upstream.http.transport import Limits
from deltaserve.server.upstream.pool.pool import sole
from deltaserve.server.upstream.probing.connect import connect
from tests.support.app import VOCAB, FlatVersion, OneVersion, byte_tokenizer, eventually, serve
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import Replay, replaying
from tests.support.table_tokenizer import byte_tokenizer as byte_table

K = 8
PROMPT = [97, 98, 99]
TOKENS = 24


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def vllm(**how: Any) -> FakeUpstream:
    return FakeUpstream("vllm", byte_table([b"<|im_start|>", b"<|im_end|>"]), vocab_size=VOCAB, **how)


def best_answer(fake: FakeUpstream) -> list[int]:
    """With an offset of nothing the best token is the black box's own."""
    ids: list[int] = []
    while len(ids) < TOKENS:
        ids.append(fake.best([*PROMPT, *ids]))
    return ids


@contextmanager
def replayed(fake: FakeUpstream) -> Iterator[tuple[Replay, Callable[[], None]]]:
    """The black box in a thread of its own; and what cuts all of its connections."""
    ready, done = threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def run() -> None:
        async with replaying(fake) as replay:
            found.extend((replay, asyncio.get_running_loop()))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    ready.wait(10)
    replay, loop = found
    try:
        yield replay, lambda: loop.call_soon_threadsafe(replay.drop_connections)
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)


@contextmanager
def in_front_of(
    replay: Replay, tokenizer: Tokenizer, version: FlatVersion | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    registry = OneVersion(version or FlatVersion(tokenizer))

    async def versions(_: Settings, __: AsyncExitStack) -> Registry:
        return registry

    async def upstream(_: Settings, known: Registry) -> Backends:
        box = await connect(replay.url, tokenizer=tokenizer, k=K, limits=Limits(attempts=1))
        return Backends(sole(box), known, "tiny")

    app = create_app(Settings(admin_key="admin", **settings), build=Build(versions, upstream))
    with serve(app) as (_, url), httpx.Client(base_url=url, timeout=20) as client:
        yield client


def ask(client: httpx.Client, **body: Any) -> httpx.Response:
    asked = {"prompt": PROMPT, "temperature": 0, "max_tokens": TOKENS, "return_token_ids": True, "ignore_eos": True}
    return client.post("/v1/completions", json=asked | body)


def shown_to_admins(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/admin/upstream", headers={"Authorization": "Bearer admin"})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def _table(choice: dict[str, Any]) -> dict[str, float]:
    table: dict[str, float] = choice["logprobs"]["top_logprobs"][0]
    return table


def _one_more(choice: dict[str, Any]) -> None:
    _table(choice)["token_id:" + ("7" if "token_id:7" not in _table(choice) else "9")] = -30.0


def _drawn_left_out(choice: dict[str, Any]) -> None:
    """As a list that is cut to k after the drawn token was taken for one outside it."""
    del _table(choice)[choice["logprobs"]["tokens"][0]]
    _one_more(choice)


def _no_list(choice: dict[str, Any]) -> None:
    choice["logprobs"] = None


ODD = {"k + 1": _one_more, "k without the drawn": _drawn_left_out, "no list": _no_list}


def test_the_reference_answer_is_what_is_served_with_an_honest_black_box(tokenizer: Tokenizer) -> None:
    fake = vllm()
    with replayed(fake) as (replay, _), in_front_of(replay, tokenizer) as client:
        answer = ask(client)
        assert answer.json()["choices"][0]["token_ids"] == best_answer(fake)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ODD)
async def test_a_black_box_that_is_always_malformed_is_refused_by_the_probe(name: str, tokenizer: Tokenizer) -> None:
    async with replaying(vllm(odd=ODD[name])) as replay:
        with pytest.raises(UncorrectableUpstream):
            await connect(replay.url, tokenizer=tokenizer, k=K, limits=Limits(attempts=1))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("name", ODD)
def test_no_token_of_a_black_box_that_becomes_malformed_is_served(
    name: str, every: int, stream: bool, tokenizer: Tokenizer
) -> None:
    fake = vllm()
    with replayed(fake) as (replay, _), in_front_of(replay, tokenizer) as client:
        fake.odd, fake.odd_every = ODD[name], every
        answer = ask(client, stream=stream)
        right, seen = best_answer(fake), served(answer)
        assert seen == right[: len(seen)] and len(seen) < TOKENS
        assert b"upstream_malformed_top_k" in answer.content
        assert stream or answer.status_code == 502


def served(answer: httpx.Response) -> list[int]:
    """Token ids of a stream, errors left out."""
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: {")]
    chunks = [httpx.Response(200, text=event).json() for event in events]
    return [i for chunk in chunks for choice in chunk.get("choices", []) for i in choice.get("token_ids") or []]


def test_other_weights_take_readiness_away_and_the_first_ones_bring_it_back(tokenizer: Tokenizer) -> None:
    fake = vllm()
    with replayed(fake) as (replay, cut), in_front_of(replay, tokenizer) as client:
        right = best_answer(fake)
        assert ask(client).json()["choices"][0]["token_ids"] == right
        fake.weights = "other"
        cut()
        eventually(lambda: client.get("/health/ready").status_code == 503)
        assert "other weights" in client.get("/health/ready").json()["problems"][0]
        answer = ask(client)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_changed")
        assert int(answer.headers["retry-after"]) >= 1 and answer.headers["x-should-retry"] == "true"
        assert "other weights" in shown_to_admins(client)["fault"]
        fake.weights = ""
        cut()
        eventually(lambda: ask(client).status_code == 200)
        assert ask(client).json()["choices"][0]["token_ids"] == right
        assert client.get("/health/ready").status_code == 200


def test_processed_logprobs_after_a_restart_are_answered_as_exactly(tokenizer: Tokenizer) -> None:
    fake = vllm()
    with replayed(fake) as (replay, cut), in_front_of(replay, tokenizer) as client:
        fake.processed = True
        cut()
        eventually(lambda: not shown_to_admins(client)["capabilities"]["raw_logprobs"])
        eventually(lambda: ask(client).status_code == 200)
        answer = ask(client)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["token_ids"] == best_answer(fake)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("then", ["", "other"])
def test_an_answer_cut_in_the_middle_goes_on_with_the_same_weights_alone(
    then: str, stream: bool, tokenizer: Tokenizer
) -> None:
    fake = vllm()
    right = best_answer(fake)
    with replayed(fake) as (replay, _), in_front_of(replay, tokenizer) as client:
        fake.cut_after, fake.weights_after_cut = 9, then
        answer = ask(client, stream=stream)
        if not then:
            assert answer.status_code == 200
            seen = served(answer) if stream else answer.json()["choices"][0]["token_ids"]
            assert seen == right
            return
        assert b"upstream_changed" in answer.content
        seen = served(answer)
        assert seen == right[: len(seen)] and (stream or answer.status_code == 503)
