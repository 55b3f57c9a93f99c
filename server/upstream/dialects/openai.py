"""OpenAI's legacy completions, and servers like it: tokens come as text, which is mapped back to ids.

That is exact only where a text names one id; a token that may be several is left to the tail, never guessed.
"""

from collections.abc import Iterator
from typing import Any

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.dialects.completions import Temperatures
from deltaserve.server.upstream.dialects.text_box import TextBox, chat_shaped
from deltaserve.server.upstream.text.lists import Entry, Told


class OpenAI(TextBox):
    """`/v1/completions` with token strings, or with chat-shaped entries that have bytes (or ids)."""

    temperatures = Temperatures(highest=2.0)
    counts_prompt = True  # OpenAI and llama-cpp-python do, others begin with 0

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._capabilities.model,
            "prompt": self.worded(token_ids),
            "max_tokens": params.max_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "n": 1,
            "logprobs": self._rules.k,
            "stream": True,
            "stream_options": {"include_usage": True, "include_obfuscation": False},
        }
        if params.seed is not None:
            body["seed"] = params.seed
        return body

    def told(self, choice: dict[str, Any]) -> Iterator[Told]:
        logprobs = choice["logprobs"]
        if logprobs.get("content") is not None:
            yield from chat_shaped(logprobs)
            return
        tokens, tables = logprobs["tokens"], logprobs["top_logprobs"]
        own_logprobs = logprobs.get("token_logprobs") or [None] * len(tokens)
        if not len(tokens) == len(tables) == len(own_logprobs):
            raise MalformedTopK("The upstream's tokens and their lists are not of one number.")
        for token, own, table in zip(tokens, own_logprobs, tables, strict=True):
            yield Told(Entry(token, own), [Entry(text, value) for text, value in table.items()], is_map=True)
