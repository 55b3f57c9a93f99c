"""llama.cpp's server: ids in, ids out, raw log-probabilities, and tokens that vanish inside a character.

A token that ends inside a UTF-8 character is not streamed, nor is what follows until the text looks whole again; then
only the last token's entry comes, its `bytes` holding the text of all of them. So an entry whose bytes are more than
its own token's says that earlier positions were swallowed: nothing of it belongs to the position it seems to be at.
"""

from collections.abc import Iterator
from typing import Any

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities, TokenizerView
from deltaserve.server.upstream.call_draft import HIDDEN
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.forcing import plain_token
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.topk import check_drawn, checked_proposal, is_text

_REPLACEMENT = "\ufffd".encode()
_FORCE = 1000.0  # a bias that no logit outweighs

_NEUTRAL: dict[str, Any] = {
    "samplers": ["temperature"],
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
    "dry_multiplier": 0.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "post_sampling_probs": False,
}


class LlamaCpp(CompletionsBox):
    """`/v1/completions` of llama.cpp's server. No X-Conversation-Id is sent: with it a disconnect stops nothing."""

    ends_apart = True
    hidden_draws = "some"  # see above

    def __init__(self, transport: Transport, tokenizer: TokenizerView, capabilities: Capabilities) -> None:
        super().__init__(transport, tokenizer, capabilities)
        self._plain_token = plain_token(tokenizer)

    async def ping(self) -> None:
        await self._transport.revalidate()
        await self._transport.get_json("/health")

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        body = _NEUTRAL | {
            "model": self._capabilities.model,
            "prompt": token_ids,
            "max_tokens": params.max_tokens,
            "temperature": temperature,
            "n": 1,
            "ignore_eos": False,  # here it forbids the end instead of passing over it, which changes the draws
            "stop": [],
            "logprobs": self._rules.k,
            "cache_prompt": self._capabilities.prefix_cache is not False,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if params.seed is not None:
            body["seed"] = params.seed % (1 << 32)
        return body

    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        for entry in choice["logprobs"]["content"]:
            drawn, listed = entry["id"], entry["top_logprobs"]
            if not listed:
                raise _nothing_listed(entry)
            if self._follows_swallowed(drawn, entry["bytes"], listed):
                yield HIDDEN
                return
            # Keyed by id: special tokens all have the same empty text.
            ids = [candidate["id"] for candidate in listed]
            logprobs = [candidate["logprob"] for candidate in listed]
            proposal = checked_proposal(drawn, ids, logprobs, self._rules)
            check_drawn(drawn, ids, logprobs, entry.get("logprob"))
            yield proposal

    def held_to_grammar(self, lark: str) -> dict[str, Any]:
        return {"grammar": lark}

    def held_to_schema(self, schema: Any) -> dict[str, Any]:
        return {"json_schema": schema}

    def forcing(self) -> dict[str, Any] | None:
        return None if self._plain_token is None else self.drawing(self._plain_token)

    def drawing(self, token_id: int) -> dict[str, Any]:
        return {"logit_bias": [[token_id, _FORCE]]}

    def _follows_swallowed(self, drawn: int, text: list[int], listed: list[dict[str, Any]]) -> bool:
        # The list has the server's own bytes of every token: anything more that is shown was held back.
        for candidate in listed:
            if candidate["id"] == drawn:
                own = candidate["bytes"]
                return text != own and bool(held_back(bytes(text), bytes(own)))
        # Outside the list only the pair's tokenizer knows, which may see a leading space otherwise; that is text.
        return bool(text) and is_broken(held_back(bytes(text), self._own_bytes(drawn, bytes(text))))

    def _own_bytes(self, drawn: int, text: bytes) -> bytes:
        """What the server shows for `drawn` by itself: nothing for special tokens and for rows without a token.

        A special token's text is no part of what is shown, and what is held back before it is never whole text.
        """
        if not 0 <= drawn < self._tokenizer.vocab_size:
            return b"" if is_broken(text) else text
        own = self._tokenizer.token_bytes(drawn)
        return b"" if is_broken(text) and not is_broken(own) and not text.endswith(own) else own


def held_back(text: bytes, own: bytes) -> bytes:
    """What of the `text` belongs to earlier, swallowed tokens: all that stands before the token's `own`.

    Raises MalformedTopK when they do not end in them: then the ids are not what we think.
    """
    if text in (b"", own) or (text == _REPLACEMENT and is_broken(own)):  # a lone continuation byte, as U+FFFD
        return b""
    if not text.endswith(own):
        raise MalformedTopK("The upstream's text for a token is not that token's: the tokenizers differ.")
    return text[: len(text) - len(own)]


def is_broken(raw: bytes) -> bool:
    """Whether a character is cut, as in all that was held back; U+FFFD stands for one."""
    return not is_text(raw) or _REPLACEMENT in raw


def _nothing_listed(entry: dict[str, Any]) -> UpstreamRefused | MalformedTopK:
    if entry["logprob"] == 0.0:
        return UpstreamRefused(
            "The upstream gives no top-k for tokens of its speculative decoding: "
            "start llama.cpp without a draft model (no --model-draft, no --spec-type)."
        )
    return MalformedTopK("The upstream listed no tokens at a position.")
