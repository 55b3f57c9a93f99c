"""Positions whose list named less than it held, and prefixes that no text says, are counted."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2 as httpx

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from tests.support.app import ScriptedBlackBox, ScriptedDraft, eventually, running_app


class OfTexts(ScriptedBlackBox):
    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator[ScriptedDraft]:
        async with super().draft(token_ids, params) as draft:
            yield _OfTexts(draft.box, draft.ids, draft.params)


class _OfTexts(ScriptedDraft):
    """Every list has a text that may be several tokens; the first prefix is no text."""

    async def __aiter__(self) -> AsyncIterator[Proposal]:
        first = True
        async for proposal in super().__aiter__():
            yield replace(proposal, log_cap=0.0, bridged=first)
            first = False


def test_they_are_metrics(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, OfTexts()) as app:
        asked = {"model": "tiny", "prompt": "abc", "max_tokens": 4, "temperature": 0}
        assert httpx.post(f"{app.url}/v1/completions", json=asked, timeout=10).status_code == 200
        eventually(app.idle)
        metrics = httpx.get(f"{app.url}/metrics").text
    assert "deltaserve_unnamed_tokens_total 4.0" in metrics
    assert "deltaserve_bridged_tokens_total 1.0" in metrics
