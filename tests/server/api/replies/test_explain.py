"""`explain`: rows that show the black box, for those who hold the admin key and for nobody else."""

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from deltaserve.server.api.replies.explain import ExplainRows
from deltaserve.server.decoding.drafting.adaptive import AdaptiveSource, BlockLimits
from deltaserve.server.decoding.drafting.sources import Drafting
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.explanation import Explanation
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.stream import Step
from tests.support.app import END, TEXT, VOCAB, RunningApp, ScriptedBlackBox, running_app

KEY = "admin-1"
ADMIN = {"x-admin-key": KEY}
COMPLETION = {"prompt": "hello", "max_tokens": 12}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}
ROUTES = [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)]
CANDIDATES = 3
FIELDS = {
    "id", "text", "bytes", "black_box", "accepted", "replaced", "certified", "kl_nats", "tail_mass", "candidates",
}  # fmt: skip


def pair() -> NumpyRow:
    """An offset that replaces most of what the black box says by `x`."""
    base = np.random.default_rng(1).normal(size=VOCAB)
    offset = np.random.default_rng(2).normal(size=VOCAB)
    offset[ord("x")] = 4.0
    return NumpyRow(base - np.log(np.exp(base).sum()), offset)


@pytest.fixture(scope="module")
def app(tokenizer: Any) -> Iterator[RunningApp]:
    with running_app(tokenizer, admin_key=KEY, explain_candidates=CANDIDATES) as running:
        running.version.flat = pair()
        yield running


def post(app: RunningApp, path: str, body: dict[str, Any], headers: dict[str, str] | None = ADMIN) -> httpx.Response:
    return httpx.post(app.url + path, json=body, headers=headers or {}, timeout=10)


def choice(app: RunningApp, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = post(app, path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def stream(app: RunningApp, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    frames = post(app, path, {**body, "stream": True}).text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def dense_before(at: int, app: RunningApp) -> np.ndarray:
    """log p̂_M over the vocabulary at one position, from the definition: the list, the tail in the pair's shape."""
    token = TEXT[at % len(TEXT)]
    ids = [token, *(i for i in b"xyz!" if i != token)]
    probs = [0.6, 0.15, 0.1, 0.05, 0.04][: len(ids)]
    base = np.exp(app.version.flat.log_base)
    outside = np.setdiff1d(np.arange(VOCAB), ids)
    before = np.zeros(VOCAB)
    before[ids] = probs
    before[outside] = np.minimum((1 - sum(probs)) * base[outside] / base[outside].sum(), min(probs))
    return np.log(before)


@pytest.mark.parametrize("temperature", [0, 1.3])
def test_rows_are_the_arithmetic_of_the_page(app: RunningApp, temperature: float) -> None:
    rows = choice(app, "/v1/completions", {**COMPLETION, "temperature": temperature, "explain": True})["explain"]
    assert len(rows) == 12
    for at, row in enumerate(rows):
        before = dense_before(5 + at, app)
        after = before + app.version.flat.log_offset
        after -= np.log(np.exp(after).sum())
        ids = [candidate["id"] for candidate in row["candidates"]]
        assert set(np.argsort(-before, kind="stable")[:CANDIDATES]) <= set(ids)
        assert ids[:CANDIDATES] == list(np.argsort(-after, kind="stable")[:CANDIDATES])
        for name, expected in (("before", before), ("offset", app.version.flat.log_offset), ("after", after)):
            found = [candidate[name] for candidate in row["candidates"]]
            np.testing.assert_allclose(found, expected[ids], atol=1e-9, err_msg=name)
        before -= np.log(np.exp(before).sum())
        assert row["kl_nats"] == pytest.approx(float((np.exp(after) * (after - before)).sum()))


def test_a_row_says_what_the_black_box_chose_and_what_became_of_it(app: RunningApp) -> None:
    said = choice(app, "/v1/completions", {**COMPLETION, "temperature": 0, "explain": True})
    first = said["explain"][0]
    assert set(first) == FIELDS
    assert (first["id"], first["text"], first["bytes"]) == (ord("x"), "x", [ord("x")])
    assert first["black_box"] == {"id": ord("f"), "text": "f"}
    assert (first["accepted"], first["replaced"], first["certified"]) == (False, True, True)
    assert first["tail_mass"] == pytest.approx(0.06)
    assert bytes(byte for row in said["explain"] for byte in row["bytes"]).decode(errors="replace") == said["text"]


def test_certified_is_null_where_it_means_nothing(app: RunningApp) -> None:
    rows = choice(app, "/v1/completions", {**COMPLETION, "temperature": 1, "seed": 1, "explain": True})["explain"]
    assert {row["certified"] for row in rows} == {None}


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1, "seed": 5, "n": 2}])
def test_a_stream_has_the_rows_of_the_whole_answer(
    app: RunningApp, path: str, body: dict[str, Any], sampling: dict[str, Any]
) -> None:
    asked = {**body, **sampling, "explain": True}
    whole = {one["index"]: one["explain"] for one in post(app, path, asked).json()["choices"]}
    streamed: dict[int, list[Any]] = {index: [] for index in whole}
    for frame in stream(app, path, asked):
        for part in frame["choices"]:
            streamed[part["index"]] += part.get("explain", [])
    assert streamed == whole
    assert all(len(rows) == 12 for rows in whole.values())


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("more", [{}, {"explain": False}, {"explain": None}])
def test_nothing_of_the_black_box_leaves_unless_it_is_asked_for(
    app: RunningApp, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    asked = {**body, "temperature": 0, "logprobs": 1 if path == "/v1/completions" else True, **more}
    plain, explained = choice(app, path, asked), choice(app, path, {**asked, "explain": True})
    assert set(explained) - set(plain) == {"explain"}
    assert {name: explained[name] for name in plain} == plain
    raw = post(app, path, {**asked, "stream": True}).text + post(app, path, asked).text
    assert not any(f'"{word}"' in raw for word in (FIELDS | {"before", "offset", "explain"}) - {"id", "text", "bytes"})


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-admin-key": ""},
        {"x-admin-key": "admin-2"},
        {"x-admin-key": f"{KEY} "[:-2]},
        {"authorization": "Bearer admin-2"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}", "x-admin-key": "admin-2"},
    ],
)
def test_without_the_right_key_it_is_refused_before_the_black_box_is_asked(
    app: RunningApp, path: str, body: dict[str, Any], streamed: bool, headers: dict[str, str]
) -> None:
    calls = app.box.calls
    refused = post(app, path, {**body, "explain": True, "stream": streamed}, headers)
    assert refused.status_code == 401
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_admin_key", "explain")
    assert app.box.calls == calls


def test_the_bearer_may_be_the_admin_key(app: RunningApp) -> None:
    answer = post(app, "/v1/completions", {**COMPLETION, "explain": True}, {"authorization": f"Bearer {KEY}"})
    assert len(answer.json()["choices"][0]["explain"]) == 12


def test_a_server_without_an_admin_key_explains_to_nobody(tokenizer: Any) -> None:
    with running_app(tokenizer) as app:
        for headers in ({}, {"x-admin-key": ""}, {"x-admin-key": "None"}, {"authorization": "Bearer none"}):
            refused = post(app, "/v1/completions", {**COMPLETION, "explain": True}, headers)
            assert refused.status_code == 403
            assert "no admin key" in refused.json()["error"]["message"]
        assert app.box.calls == 0


def test_beside_api_keys_the_admin_key_opens_what_an_api_key_does_not(tokenizer: Any) -> None:
    with running_app(tokenizer, api_keys="user", admin_key=KEY) as app:
        asked = {**COMPLETION, "explain": True}
        user = {"authorization": "Bearer user"}
        assert post(app, "/v1/completions", asked, ADMIN).status_code == 401
        assert post(app, "/v1/completions", asked, user).status_code == 401
        assert post(app, "/v1/completions", asked, user | ADMIN).status_code == 200
        assert post(app, "/v1/completions", asked, {"authorization": f"Bearer {KEY}"}).status_code == 200
        assert post(app, "/v1/completions", COMPLETION, user).status_code == 200


def test_many_wrong_admin_keys_are_rate_limited(tokenizer: Any) -> None:
    with running_app(tokenizer, admin_key=KEY, admin_requests_per_minute=2) as app:
        asked = {**COMPLETION, "explain": True}
        codes = [post(app, "/v1/completions", asked, {"x-admin-key": f"guess {i}"}).status_code for i in range(3)]
        assert codes == [401, 401, 429]
        assert post(app, "/v1/completions", asked).status_code == 200


def test_a_special_token_adds_no_bytes(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(ends_at=7), admin_key=KEY) as app:
        rows = choice(app, "/v1/completions", {**COMPLETION, "temperature": 0, "explain": True})["explain"]
        assert [row["id"] for row in rows] == [*b"fg", END]
        assert (rows[-1]["text"], rows[-1]["bytes"]) == ("<|im_end|>", [])


def test_numbers_without_a_finite_value_are_null_and_foreign_ids_are_left_out(tokenizer: Any) -> None:
    rows = ExplainRows(tokenizer)
    inf, ids = math.inf, np.array([97, 98, VOCAB + 3])
    explanation = Explanation(0.5, ids, np.array([-1, -inf, -inf]), np.array([-inf, 0, 0]), np.array([-inf, -1, -inf]))
    rows.add([Step(98, None, None, 1.0, explanation=explanation)])
    [row] = json.loads(rows.flush())
    assert (row["black_box"], row["accepted"], row["replaced"]) == (None, False, False)
    assert row["candidates"] == [
        {"id": 97, "text": "a", "before": -1.0, "offset": None, "after": None},
        {"id": 98, "text": "b", "before": None, "offset": 0.0, "after": -1.0},
    ]
    assert rows.flush() == b"[]"


def test_an_id_that_the_tokenizer_has_not_has_no_text(tokenizer: Any) -> None:
    rows = ExplainRows(tokenizer)
    rows.add([Step(97, VOCAB + 3, True, 0.1)])
    assert json.loads(rows.flush())[0]["black_box"] == {"id": VOCAB + 3, "text": None}


def test_explained_streams_are_never_drafted_by_the_pair() -> None:
    box: Any = ScriptedBlackBox()
    drafting = Drafting(BlockLimits())
    assert isinstance(drafting.source(box, box), AdaptiveSource)
    assert isinstance(drafting.source(box, box, explained=True), UpstreamSource)
