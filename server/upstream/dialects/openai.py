"""OpenAI's legacy completions, and servers like it: tokens come as text, which is mapped back to ids.

That is exact only where a text names one id; a position where it does not is refused, never guessed.
"""

from collections.abc import Iterator
from typing import Any

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities, TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox, Temperatures
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.topk import check_drawn, checked_proposal

_AMBIGUOUS = -1
_FRAGMENT = "bytes:"


class TokenNames:
    """Token bytes to ids, for every token whose bytes no other token has."""

    def __init__(self, tokenizer: TokenizerView) -> None:
        ids: dict[bytes, int] = {}
        for token_id in range(tokenizer.vocab_size):
            name = tokenizer.token_bytes(token_id)
            ids[name] = _AMBIGUOUS if name in ids else token_id
        self._ids = ids

    def id_of(self, name: bytes) -> int:
        """The only id of these bytes; MalformedTopK when none or several have them."""
        token_id = self._ids.get(name)
        if token_id is None:
            raise MalformedTopK("The upstream listed a token text that is no token of the tokenizer.")
        if token_id == _AMBIGUOUS:
            raise MalformedTopK("The upstream listed a token text that several token ids have: ids are needed.")
        return token_id


class OpenAI(CompletionsBox):
    """`/v1/completions` with token strings, or with chat-shaped entries that have bytes (or ids)."""

    temperatures = Temperatures(highest=2.0)
    ends_apart = True
    counts_prompt = True  # OpenAI and llama-cpp-python do, others begin with 0
    hidden_draws = "unknown"  # end tokens are often left out, and a server that is not known may filter what it draws

    def __init__(self, transport: Transport, tokenizer: TokenizerView, capabilities: Capabilities) -> None:
        super().__init__(transport, tokenizer, capabilities)
        self._names = TokenNames(tokenizer)

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._capabilities.model,
            "prompt": token_ids if self._capabilities.ids_in else self._as_text(token_ids),
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

    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        logprobs = choice["logprobs"]
        if logprobs.get("content") is not None:
            for entry in logprobs["content"]:
                listed = entry["top_logprobs"]
                ids = [self._entry_id(candidate) for candidate in listed]
                values = [candidate["logprob"] for candidate in listed]
                yield self._sorted(self._entry_id(entry), ids, values, entry.get("logprob"))
            return
        tokens, tables = logprobs["tokens"], logprobs["top_logprobs"]
        own_logprobs = logprobs.get("token_logprobs") or [None] * len(tokens)
        if not len(tokens) == len(tables) == len(own_logprobs):
            raise MalformedTopK("The upstream's tokens and their lists are not of one number.")
        for token, own, table in zip(tokens, own_logprobs, tables, strict=True):
            ids = [self._names.id_of(name_bytes(text)) for text in table]
            yield self._sorted(self._names.id_of(name_bytes(token)), ids, list(table.values()), own)

    def _as_text(self, token_ids: list[int]) -> str:
        text = self._tokenizer.decode(token_ids)
        if self._tokenizer.encode(text) != token_ids:
            raise UpstreamRefused(
                "The upstream takes its prompt as text only, and these tokens would not come back from theirs: "
                "an upstream that accepts token ids is needed."
            )
        return text

    def _entry_id(self, entry: dict[str, Any]) -> int:
        token_id = entry.get("token_id", entry.get("id"))
        if isinstance(token_id, int):
            return token_id
        raw = entry.get("bytes")
        return self._names.id_of(name_bytes(entry["token"]) if raw is None else bytes(raw))

    def _sorted(self, drawn: int, ids: list[int], logprobs: list[float], own: float | None) -> Proposal:
        """Neither the order of a JSON map nor where the drawn token stands is promised, nor that it is listed: sort.

        One more than k is the drawn token, which then is the least probable.
        """
        order = sorted(range(len(ids)), key=logprobs.__getitem__, reverse=True)
        ids, logprobs = [ids[at] for at in order], [logprobs[at] for at in order]
        check_drawn(drawn, ids, logprobs, own)
        if len(ids) == self._rules.k + 1 and drawn in ids:
            at = ids.index(drawn)
            own = logprobs.pop(at)
            del ids[at]
        proposal = checked_proposal(drawn, ids, logprobs, self._rules)
        check_drawn(drawn, ids, logprobs, own)
        return proposal


def name_bytes(text: str) -> bytes:
    r"""The bytes that a token string stands for: its UTF-8, or what `bytes:\xf0\x9f` spells out."""
    if text.startswith(_FRAGMENT) and len(text) > len(_FRAGMENT):
        spelled = text[len(_FRAGMENT) :]
        try:
            return spelled.encode("latin-1").decode("unicode_escape").encode("latin-1")
        except (UnicodeDecodeError, UnicodeEncodeError):
            return text.encode()
    return text.encode()
