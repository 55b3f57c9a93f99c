"""vLLM: ids in, ids out, raw log-probabilities by default."""

from collections.abc import Iterator
from typing import Any

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities, TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox, Temperatures
from deltaserve.server.upstream.dialects.forcing import plain_token
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.topk import ranked_proposal

_PREFIX = "token_id:"


class NamedByText(MalformedTopK):
    """Tokens came without their ids: another server, or something between that strips what it does not know."""


class TokenIds(dict[str, int]):
    """`token_id:634` → 634, remembered: the same names come back at every position."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __missing__(self, name: str) -> int:
        digits = name.removeprefix(_PREFIX)
        if digits == name or not digits.isdecimal() or str(token_id := int(digits)) != digits:
            raise NamedByText("The upstream does not name tokens by id: it ignores return_tokens_as_token_ids.")
        if token_id < self._size:  # names of ids that cannot be are refused later and must not fill the memory
            self[name] = token_id
        return token_id


class Vllm(CompletionsBox):
    """`/v1/completions` of vLLM, and of servers that answer in its shape."""

    temperatures = Temperatures(lowest=0.01)  # it draws at 0.01 what is asked below

    def __init__(
        self,
        transport: Transport,
        tokenizer: TokenizerView,
        capabilities: Capabilities,
        *,
        cache_salt: str | None = None,
    ) -> None:
        super().__init__(transport, tokenizer, capabilities)
        self._cache_salt = cache_salt
        self._ids = TokenIds(max(tokenizer.vocab_size, capabilities.vocab_size or 0))
        self._plain_token = plain_token(tokenizer)

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._capabilities.model,
            "prompt": token_ids,
            "max_tokens": params.max_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "n": 1,
            "min_tokens": min(params.min_tokens, params.max_tokens),
            "ignore_eos": params.ignore_eos,
            "stop": [],
            "stop_token_ids": [],
            "logprobs": self._rules.k,
            "return_tokens_as_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if params.seed is not None:
            body["seed"] = params.seed
        if self._cache_salt is not None:
            body["cache_salt"] = self._cache_salt
        return body

    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        logprobs = choice["logprobs"]
        id_of = self._ids.__getitem__
        tokens = list(map(id_of, logprobs["tokens"]))
        _check_counts(tokens, logprobs, choice.get("token_ids"))
        own_logprobs = logprobs.get("token_logprobs") or [None] * len(tokens)
        for token, own, listed in zip(tokens, own_logprobs, logprobs["top_logprobs"], strict=True):
            yield ranked_proposal(token, list(map(id_of, listed)), list(listed.values()), self._rules, own)

    def held_to_grammar(self, lark: str) -> dict[str, Any]:
        return {"structured_outputs": {"grammar": lark}}

    def held_to_schema(self, schema: Any) -> dict[str, Any]:
        return {"structured_outputs": {"json": schema}}

    def forcing(self) -> dict[str, Any] | None:
        # Only a raw list stays what it is under a bias.
        if self._plain_token is None or not self._capabilities.raw_logprobs:
            return None
        return self.drawing(self._plain_token)


def _check_counts(tokens: list[int], logprobs: dict[str, Any], token_ids: list[int] | None) -> None:
    """Before any list is believed: with one more or fewer of something, none belongs where it seems to."""
    for column in (logprobs["top_logprobs"], logprobs.get("token_logprobs"), logprobs.get("text_offset")):
        if column is not None and len(column) != len(tokens):
            raise MalformedTopK("The upstream's tokens, their lists and their offsets are not of one number.")
    if token_ids and token_ids != tokens:
        raise MalformedTopK("The upstream's token_ids are not the tokens that it lists.")
