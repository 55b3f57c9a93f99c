"""Ollama's `/api/generate` with `raw`: lines of JSON, 20 alternatives by the text that is shown of them, no ids.

Its server is llama.cpp's, whose ids it drops. What llama.cpp hides (a part of a character, until the rest is there;
tokens without a text) it hides too. So an answer is used when its count says that every token was shown, and a call
asks for few tokens. An entry without a text may be any of those: that it is the end is known only where it is the best
one, and the answer of temperature 0 ends there.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import UpstreamDraft
from deltaserve.server.upstream.call_draft import HIDDEN, CompletionDraft, Reader
from deltaserve.server.upstream.dialects.counted import CountedBox, CountedDraft
from deltaserve.server.upstream.dialects.text_box import chat_shaped
from deltaserve.server.upstream.http.transport import EventStream, Framing
from deltaserve.server.upstream.text.lists import Told

LONGEST_CALL: Final = 16  # tokens: they are used when all of them are there
_HOTTER: Final = (2.0, 10.0, 100.0)  # temperatures at which a token that is shown becomes likely; lists are raw
_REASONS: Final = {"stop": "stop", "length": "length"}
_NEUTRAL: Final[dict[str, Any]] = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "stop": [],
}


class Ollama(CountedBox):
    """The model's template is not applied, and prompts that are too long are refused, not shortened."""

    path: ClassVar[str] = "/api/generate"
    framing: ClassVar[Framing] = "lines"
    hidden_draws: ClassVar[Literal["none", "unknown", "some"]] = "some"
    cuts: ClassVar[bool] = True
    takes_ids: ClassVar[bool] = False
    takes_bias: ClassVar[bool] = False

    async def ping(self) -> None:
        await self._transport.revalidate()
        await self._transport.get_json("/api/version")

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        options = _NEUTRAL | {"temperature": temperature, "num_predict": params.max_tokens + self.spare_tokens}
        if params.seed is not None:
            options["seed"] = params.seed % (1 << 31)
        return {
            "model": self._capabilities.model,
            "prompt": self.worded(token_ids),
            "raw": True,
            "truncate": False,
            "shift": False,
            "logprobs": True,
            "top_logprobs": self._rules.k,
            "options": options,
            "stream": True,
        }

    async def post(self, body: Mapping[str, Any], path: str | None = None) -> Any:
        """It streams unless it is told not to."""
        return await self._transport.post_json(path or self.path, {**body, "stream": False})

    def reader(self) -> Reader:
        return _as_completion

    def told(self, choice: dict[str, Any]) -> Iterator[Told | None]:
        for told in chat_shaped(choice["logprobs"]):
            yield told if _is_one_token(told) else None

    def draft_of(
        self, events: EventStream, prefix: list[int], temperature: float, max_tokens: int, *, recover: bool = True
    ) -> CompletionDraft:
        return CountedDraft(self, events, prefix, temperature, max_tokens, recover=recover)

    @asynccontextmanager
    async def _draft(self, token_ids: list[int], params: DraftParams) -> AsyncIterator[UpstreamDraft]:
        short = replace(params, max_tokens=min(params.max_tokens, LONGEST_CALL))
        async with super()._draft(token_ids, short) as draft:
            yield draft

    async def shown_again(self, prefix: list[int], *, ended: bool = False) -> Proposal:
        """Where its own best token ends the answer there, the best entry is that end although it has no text."""
        self.swallowed_positions += 1
        end = self._end_id if ended or await self._ends_at(prefix) else None
        for temperature in _HOTTER:
            try:
                return await self._seen(prefix, self.temperature_for(temperature), end)
            except (UpstreamRefused, MalformedTopK):
                continue
        self.blind_positions += 1
        return HIDDEN

    @property
    def _end_id(self) -> int | None:
        """Any of the tokens that end its answers: they all end one."""
        return next(iter((*self._capabilities.end_ids, *self._tokenizer.eos_ids)), None)

    async def _ends_at(self, prefix: list[int]) -> bool:
        """Whether its own best token there ends the answer."""
        try:
            body = self.request(prefix, 0.0, DraftParams(0.0, 1))
        except UpstreamRefused:  # no text says this prefix
            return False
        async with self.opened(body) as events:
            return await CountedDraft(self, events, [*prefix], 0.0, 1, recover=False).ended_at_once()

    async def _seen(self, prefix: list[int], temperature: float, end: int | None) -> Proposal:
        """The list of a position whose token is shown this time. Raises UpstreamError."""
        reading = replace(self.reading, end=end)
        async with self.opened(self.request(prefix, temperature, DraftParams(temperature, 1))) as events:
            draft = CountedDraft(self, events, [*prefix], temperature, 1, recover=False, reading=reading)
            async for proposal in draft:
                return replace(proposal, token_id=None)
        raise MalformedTopK("The upstream shows no top-k where it swallowed a token.")


def _is_one_token(told: Told) -> bool:
    """Whether what is shown is the token's own text: what was held back before it is never plain ASCII."""
    drawn = told.drawn
    return drawn.text.isascii() or any((e.text, e.logprob) == (drawn.text, drawn.logprob) for e in told.listed)


def _as_completion(line: Any) -> Any:
    """A line, or a whole answer, in the shape of completions."""
    if not isinstance(line, dict) or "response" not in line or line.get("error"):
        return line
    logprobs, done = line.get("logprobs") or None, bool(line.get("done"))
    text = line["response"] + (line.get("thinking") or "")
    choice = {
        "index": 0,
        "text": text,
        "logprobs": {"content": logprobs} if logprobs else None,
        "finish_reason": _REASONS.get(line.get("done_reason") or "", "error") if done else None,
    }
    chunk: dict[str, Any] = {"choices": [choice] if text or logprobs or done else []}
    if done:  # counts of zero are left out
        chunk["usage"] = {
            "prompt_tokens": line.get("prompt_eval_count", 0),
            "cached_beside": line.get("prompt_eval_cached_count", 0),
            "completion_tokens": line.get("eval_count", 0),
        }
    return chunk
