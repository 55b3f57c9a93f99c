"""The dialects under test: each with its stand-in, and what it is known to be unable to do.

A new dialect is a row here: every trap of this folder is then set for it.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import pytest

from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities, Dialect
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.table import box_of
from deltaserve.server.upstream.http.transport import Limits, Timeouts, Transport
from tests.support.replay import Replay, replaying
from tests.support.standins.base import Asked, StandIn
from tests.support.standins.chat import Chat, DeepSeek, OpenRouter
from tests.support.standins.fireworks import Fireworks
from tests.support.standins.llamacpp import LlamaCpp
from tests.support.standins.ollama import Ollama
from tests.support.standins.openai import OpenAI
from tests.support.standins.oracle import PROMPT, SIZE, TOKENIZER, best, logprobs
from tests.support.standins.sglang import SGLang
from tests.support.standins.together import Together
from tests.support.standins.vllm import Vllm

K: Final = 5
KEY: Final = "sk-conformance-4f1c"
CUTS_TEXT: Final = frozenset({"half a character", "a part of an emoji"})
TEXTS: Final[Mapping[str, Any]] = {"ids_in": False, "ids_out": False, "counts_prompts": True, "raw_with_bias": True}
PARTS: Final = CUTS_TEXT | {"a whole character of two tokens"}
RETOKENISED: Final = frozenset({"a word in two tokens that has one of its own"})


@dataclass(frozen=True)
class Row:
    """One dialect, or one way in which its servers differ."""

    name: str
    dialect: Dialect
    stand_in: Callable[..., StandIn]
    refuses_after: frozenset[str] = frozenset()  # kinds of tokens behind which it cannot go on: refused, never guessed
    hides_tokens: bool = False  # it may not show what it drew; what it lists is right all the same
    limits_k: bool = True  # it refuses to list more than it was started with
    hides_end: bool = False  # the token that ended its answer is not listed
    loses: bool = False  # its lists may have lost entries to others with the same text, which their bound allows for
    counted: bool = False  # what a call draws is handed out when its last line has counted it
    facts: Mapping[str, Any] = field(default_factory=dict)  # capabilities other than a good server's
    how: Mapping[str, Any] = field(default_factory=dict)  # `connect` it so

    def box(self, url: str, **facts: Any) -> CompletionsBox:
        """As it is after a probe that found a good server, but for `facts`."""
        known = Capabilities(
            dialect=self.dialect, server=self.name, model="tiny", k=K, max_k=20, vocab_size=SIZE, max_context=512,
            ids_in=True, ids_out=True, raw_logprobs=True, prompt_list=False, prompt_logprobs=False, prefix_cache=None,
        )  # fmt: skip
        limits, timeouts = Limits(attempts=1), Timeouts(first_token_s=5.0, between_tokens_s=5.0)
        known = replace(known, **(dict(self.facts) | facts))
        return box_of(Transport(url, key=KEY, limits=limits, timeouts=timeouts), TOKENIZER, known)


NOT_IN_CHATS: Final = CUTS_TEXT | RETOKENISED
_HIDING: Final[dict[str, Any]] = {
    "refuses_after": CUTS_TEXT | RETOKENISED, "hides_tokens": True, "hides_end": True, "counted": True, "facts": TEXTS,
}  # fmt: skip

ROWS: Final = (
    Row("vllm", "vllm", Vllm),
    Row("llamacpp", "llamacpp", LlamaCpp, hides_tokens=True, limits_k=False),
    Row("openai", "openai", OpenAI, hides_end=True, facts={"ids_out": False}),
    Row("sglang", "sglang", SGLang, limits_k=False),
    Row("sglang, incremental", "sglang", partial(SGLang, incremental=True), limits_k=False),
    Row("sglang, counts behind", "sglang", partial(SGLang, behind=True), limits_k=False),
    Row(
        "sglang, after the temperature",
        "sglang",
        partial(SGLang, processed=True),
        limits_k=False,
        facts={"raw_logprobs": False, "greedy_raw": True},
    ),
    Row(
        "openai, text only",
        "openai",
        partial(OpenAI, takes_ids=False),
        refuses_after=CUTS_TEXT | RETOKENISED,
        hides_end=True,
        facts=TEXTS,
    ),
    Row("fireworks", "fireworks", Fireworks),
    Row("fireworks, end not shown", "fireworks", partial(Fireworks, shows_end=False), hides_end=True),
    Row("together", "together", Together, refuses_after=CUTS_TEXT | RETOKENISED, loses=True, facts=TEXTS),
    Row("ollama", "ollama", Ollama, **_HIDING),
    Row("ollama, older", "ollama", partial(Ollama, replaces=True, counts_end=False), **_HIDING),
    Row("ollama, last list lost", "ollama", partial(Ollama, drops_last=True), **_HIDING),
    Row("chat", "chat", Chat, refuses_after=NOT_IN_CHATS, facts=TEXTS),
    Row("deepseek", "deepseek", DeepSeek, refuses_after=NOT_IN_CHATS, hides_end=True, facts=TEXTS),
    Row(
        "openrouter",
        "openrouter",
        OpenRouter,
        refuses_after=NOT_IN_CHATS,
        facts=TEXTS | {"provider": "mine/fp8"},
        how={"provider": "mine/fp8"},
    ),
)
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@asynccontextmanager
async def opened(
    row: Row, *, facts: Mapping[str, Any] | None = None, **how: Any
) -> AsyncIterator[tuple[CompletionsBox, Replay]]:
    """The dialect's black box in front of its stand-in, whose switches are `how`."""
    async with replaying(row.stand_in(**how)) as replay:
        box = row.box(replay.url, **(facts or {}))
        try:
            yield box, replay
        finally:
            await box.aclose()


async def drafted(
    box: CompletionsBox, prefix: Sequence[int] = PROMPT, tokens: int = 1, temperature: float = 0.0
) -> list[Proposal]:
    async with box.draft(prefix, DraftParams(temperature, tokens)) as draft:
        return [proposal async for proposal in draft]


async def tokens_of(box: CompletionsBox, tokens: int, seen: list[int | None]) -> None:
    """Adds what is shown to `seen`, also where an error ends it."""
    async with box.draft(PROMPT, DraftParams(0.0, tokens)) as draft:
        async for proposal in draft:
            seen.append(proposal.token_id)  # noqa: PERF401


def require_exact(proposal: Proposal, prefix: Sequence[int], k: int = K) -> None:
    """Its list is the model's own after exactly this prefix: the k best, in their order, with their numbers.

    Those that a text does not name may be missing; then the bound on what is not listed holds for all of them.
    """
    ids, known = proposal.top_ids.tolist(), logprobs(prefix)
    if proposal.log_cap is None:
        assert ids == best(prefix, k)
    else:
        assert ids == [i for i in best(prefix, k) if i in ids]
        assert all(known[i] <= proposal.log_cap + 1e-6 for i in range(SIZE) if i not in ids)
    np.testing.assert_allclose(proposal.top_logprobs, known[ids], atol=1e-6)


def sent_prefixes(replay: Replay, row: Row, box: CompletionsBox) -> list[list[int]]:
    """The ids that the stand-in read in every call."""
    return [asked.prefix for body in replay.bodies(box.path) if isinstance(asked := row.stand_in().asked(body), Asked)]
