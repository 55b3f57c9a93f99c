"""A position of which the black box shows nothing: an error by default, the pair's word where an operator allows it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, DraftParams, Proposal
from tests.support.app import RunningApp, ScriptedBlackBox, ScriptedDraft, eventually, running_app

BLIND_AT = 6
ASKED = {"model": "tiny", "prompt": "abc", "max_tokens": 8, "temperature": 0}


class Blind(ScriptedBlackBox):
    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator[ScriptedDraft]:
        async with super().draft(token_ids, params) as draft:
            yield _BlindDraft(draft.box, draft.ids, draft.params)


class _BlindDraft(ScriptedDraft):
    async def __aiter__(self) -> AsyncIterator[Proposal]:
        async for proposal in super().__aiter__():
            if len(self.ids) == BLIND_AT + 1:
                yield Proposal(None, NO_IDS, NO_FLOATS)
                return
            yield proposal


def ask(app: RunningApp, **fields: Any) -> httpx.Response:
    return httpx.post(f"{app.url}/v1/completions", json={**ASKED, **fields}, timeout=10)


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.0}, {"temperature": 1.0, "seed": 3}])
def test_it_is_an_error_that_names_the_setting_and_the_server_stays_ready(
    tokenizer: Tokenizer, sampling: dict[str, Any]
) -> None:
    with running_app(tokenizer, Blind()) as app:
        answer = ask(app, **sampling)
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "upstream_blind_position"
        assert "allow_blind" in answer.json()["error"]["message"]
        eventually(app.idle)
        assert app.box.calls >= 3
        assert httpx.get(f"{app.url}/health/ready").status_code == 200
        assert "deltaserve_blind_tokens_total 0.0" in httpx.get(f"{app.url}/metrics").text


def test_a_stream_that_comes_to_it_ends_in_an_error_event(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, Blind()) as app:
        first, *_, last = [frame for frame in ask(app, stream=True).text.split("\n\n") if "{" in frame]
    assert '"text":"d"' in first
    assert "upstream_blind_position" in last


def test_where_an_operator_allows_it_the_pair_decides_and_every_answer_says_so(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, Blind(), allow_blind=True, guard_kl=9.0, guard_min_p=0.5) as app:
        answer = ask(app)
        assert answer.status_code == 200
        assert answer.json()["usage"]["completion_tokens"] == 8
        assert answer.json()["system_fingerprint"].endswith("+kl9-minp0.5+blind")
        card = httpx.get(f"{app.url}/v1/models").json()["data"][0]
        assert card["system_fingerprint"] == answer.json()["system_fingerprint"]
        assert "deltaserve_blind_tokens_total 1.0" in httpx.get(f"{app.url}/metrics").text
    with running_app(tokenizer) as app:
        assert "blind" not in ask(app).json()["system_fingerprint"]
