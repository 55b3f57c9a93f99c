"""POST /playground/before: the black box's own answer, for those who hold the admin key."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from deltaserve.errors import UpstreamError, UpstreamUnreachable
from deltaserve.server.app import create_app
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, DraftParams, Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.serving.uncorrected import OwnChoice
from deltaserve.server.settings import Settings
from tests.support.app import (
    END,
    TEXT,
    VOCAB,
    RunningApp,
    ScriptedBlackBox,
    ScriptedDraft,
    eventually,
    running_app,
    serve,
)
from tests.support.blackbox import blackbox, make_model
from tests.support.demo_weights import make_demo_weights

KEY = "admin-1"
ADMIN = {"x-admin-key": KEY}
PATH = "/playground/before"
ASKED = {"prompt": "hello", "max_tokens": 15, "temperature": 0}


@pytest.fixture(scope="module")
def app(tokenizer: Any) -> Iterator[RunningApp]:
    with running_app(tokenizer, admin_key=KEY) as running:
        offset = np.zeros(VOCAB)
        offset[ord("x")] = 50.0  # a corrected answer says nothing but x
        running.version.flat = NumpyRow(running.version.flat.log_base, offset)
        yield running


def post(app: RunningApp, body: dict[str, Any], headers: dict[str, str] | None = ADMIN) -> httpx.Response:
    return httpx.post(app.url + PATH, json=body, headers=headers or {}, timeout=10)


def frames(answer: httpx.Response) -> list[dict[str, Any]]:
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("seed", [None, 3])
def test_it_is_what_the_black_box_says_word_for_word(app: RunningApp, temperature: float, seed: int | None) -> None:
    answer = post(app, {**ASKED, "temperature": temperature, "seed": seed}).json()
    assert answer["source"] == "black box, uncorrected"
    assert answer["choices"][0]["text"].encode() == TEXT[5:20]
    assert [token["id"] for token in answer["choices"][0]["tokens"]] == list(TEXT[5:20])
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 15, "total_tokens": 20}
    assert "system_fingerprint" not in answer  # no offset made this
    corrected = httpx.post(f"{app.url}/v1/completions", json={**ASKED, "temperature": temperature}).json()
    assert corrected["choices"][0]["text"] == "x" * 15


def test_a_stream_says_the_same_and_names_its_source_in_every_frame(app: RunningApp) -> None:
    whole = post(app, ASKED).json()["choices"][0]
    streamed = frames(post(app, {**ASKED, "stream": True}))
    assert {frame["source"] for frame in streamed} == {"black box, uncorrected"}
    assert "".join(frame["choices"][0]["text"] for frame in streamed) == whole["text"]
    assert [token for frame in streamed for token in frame["choices"][0]["tokens"]] == whole["tokens"]
    assert streamed[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "length"


def test_messages_go_through_the_template_of_the_chat_route(app: RunningApp) -> None:
    messages = [{"role": "user", "content": "hello"}]
    ids = httpx.post(f"{app.url}/tokenize", json={"messages": messages}).json()["tokens"]
    answer = post(app, {"messages": messages, "max_tokens": 4, "temperature": 0}).json()
    assert answer["usage"]["prompt_tokens"] == len(ids)
    expected = [TEXT[(len(ids) + i) % len(TEXT)] for i in range(4)]
    assert [token["id"] for token in answer["choices"][0]["tokens"]] == expected


def test_no_engine_work_is_done_for_it_and_nothing_is_left_open(app: RunningApp) -> None:
    rows = app.version.prefetched
    post(app, ASKED)
    assert app.version.prefetched == rows
    eventually(app.idle)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-admin-key": "admin-2"},
        {"authorization": "Bearer admin-2"},
        {"authorization": f"Bearer {KEY}", "x-admin-key": "no"},
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_without_the_key_it_tells_nothing(app: RunningApp, headers: dict[str, str], streamed: bool) -> None:
    calls = app.box.calls
    refused = post(app, {**ASKED, "stream": streamed}, headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_admin_key")
    assert post(app, {"nonsense": 1}, headers).status_code == 401  # the key comes before the body
    assert app.box.calls == calls


def test_an_api_key_does_not_open_it(tokenizer: Any) -> None:
    with running_app(tokenizer, api_keys="user", admin_key=KEY) as app:
        assert post(app, ASKED, {"authorization": "Bearer user"}).status_code == 401
        assert post(app, ASKED, {"authorization": f"Bearer {KEY}"}).status_code == 200


def test_a_server_without_an_admin_key_tells_nobody(tokenizer: Any) -> None:
    with running_app(tokenizer) as app:
        for headers in ({}, {"x-admin-key": ""}, {"authorization": "Bearer none"}):
            assert post(app, ASKED, headers).status_code == 403
        assert app.box.calls == 0


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"top_p": 0.5}, "top_p"),
        ({"explain": True}, "explain"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"max_tokens": 100_000}, "max_tokens"),
    ],
)
def test_what_it_cannot_do_is_refused(app: RunningApp, more: dict[str, Any], param: str) -> None:
    refused = post(app, {**ASKED, **more})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_fault_on_the_way_neither_repeats_nor_skips_a_token(tokenizer: Any) -> None:
    box = ScriptedBlackBox(fault=UpstreamUnreachable("Gone."), fault_after=4)
    with running_app(tokenizer, box, admin_key=KEY) as app:
        assert post(app, ASKED).json()["choices"][0]["text"].encode() == TEXT[5:20]
        assert app.box.calls > 1


def test_the_end_token_and_stop_strings_end_it(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(ends_at=8), admin_key=KEY) as app:
        ended = post(app, ASKED).json()["choices"][0]
        assert (ended["text"], ended["finish_reason"]) == ("fgh", "stop")
        assert ended["tokens"][-1] == {"id": END, "text": "<|im_end|>", "bytes": []}
        stopped = post(app, {**ASKED, "stop": ["g"]}).json()["choices"][0]
        assert (stopped["text"], stopped["stop_reason"]) == ("f", "g")


class Swallowing(ScriptedDraft):
    """A draft that hides what it chose; at odd positions its list, too."""

    async def __aiter__(self) -> AsyncIterator[Proposal]:
        yield Proposal(None, np.array([7, 8]), np.log([0.6, 0.4]))
        yield Proposal(None, NO_IDS, NO_FLOATS)


@pytest.mark.anyio
async def test_a_hidden_choice_is_the_likeliest_and_one_that_cannot_be_known_an_error() -> None:
    from contextlib import asynccontextmanager

    class Box:
        @asynccontextmanager
        async def draft(self, token_ids: Any, params: DraftParams) -> AsyncIterator[Swallowing]:
            yield Swallowing(ScriptedBlackBox(), [], params)

    async with OwnChoice(Box(), 10).draft([1], DraftParams(0.0, 2)) as draft:
        proposals = aiter(draft)
        first = await anext(proposals)
        assert (first.token_id, first.top_ids.tolist(), first.top_logprobs.tolist()) == (7, [7], [0.0])
        with pytest.raises(UpstreamError):
            await anext(proposals)


def real(upstream: str, root: Path, state: Path) -> Settings:
    return Settings(
        upstream_url=upstream, offsets_root=root, offset="registry-erasure", base=root / "base", torch_threads=1,
        admin_key=KEY, state_folder=state,
    )  # fmt: skip


def test_a_real_black_box_says_there_what_it_says_when_it_is_asked_itself(tmp_path: Path) -> None:
    root = make_demo_weights(tmp_path / "weights")
    model = make_model(tmp_path / "box", seed=3)
    with blackbox(model) as box, serve(create_app(real(box.url, root, tmp_path / "state"))) as (_, url):
        asked = {"prompt": "The river runs", "max_tokens": 24, "temperature": 0}
        own = box.complete("The river runs", max_tokens=24, temperature=0)["choices"][0]["text"]
        answer = httpx.post(url + PATH, json=asked, headers=ADMIN).json()["choices"][0]
        assert answer["text"] == own
        explained = httpx.post(
            f"{url}/v1/completions", json={**asked, "explain": True, "logprobs": 0}, headers=ADMIN
        ).json()["choices"][0]
        assert explained["text"] != own
        for row, logprob in zip(explained["explain"], explained["logprobs"]["token_logprobs"], strict=True):
            one = {candidate["id"]: candidate for candidate in row["candidates"]}
            constants = [c["after"] - c["before"] - c["offset"] for c in row["candidates"]]
            assert constants == pytest.approx([constants[0]] * len(constants), abs=1e-5)
            assert one[row["id"]]["after"] == pytest.approx(logprob, abs=1e-6)
        sampled = [
            httpx.post(url + PATH, json={**asked, "temperature": 1, "seed": 4}, headers=ADMIN).json() for _ in range(2)
        ]
        direct = box.complete("The river runs", max_tokens=24, temperature=1, seed=4)["choices"][0]["text"]
        assert [answer["choices"][0]["text"] for answer in sampled] == [direct] * 2
