"""A scorer that asks without probing first: for black boxes of a page that know one route only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from deltaserve.offset_models.training.collecting.source import retried, stacked
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from deltaserve.server.upstream.dialects.completions import PATH
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.listing.one_prompt import read_prompt_logprobs
from deltaserve.server.upstream.topk import TopKRules

ANY_ID: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """vLLM's `prompt_logprobs`."""

    transport: Transport
    k: int

    async def top_k(self, sample: Sample) -> TopK:
        body = {
            "model": "box",
            "prompt": sample.ids,
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": self.k,
            "return_tokens_as_token_ids": True,
        }

        async def asked() -> Any:
            return await self.transport.post_json(PATH, body)

        choice = (await retried(asked))["choices"][0]
        rules = TopKRules(self.k, ANY_ID, ANY_ID)
        return stacked(read_prompt_logprobs(choice, sample.prompt_ids, sample.answer_ids, rules), self.k)


@asynccontextmanager
async def unprobed(url: str, k: int = 5) -> AsyncIterator[PromptLogprobs]:
    transport = Transport(url)
    try:
        yield PromptLogprobs(transport, k)
    finally:
        await transport.aclose()
