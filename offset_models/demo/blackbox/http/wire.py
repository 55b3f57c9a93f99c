"""The shapes that vLLM gives its answers, from tokens: legacy logprobs, chat logprobs, prompt logprobs, usage."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from deltaserve.offset_models.demo.blackbox.generation.sequence import PromptPosition, Token
from deltaserve.offset_models.demo.blackbox.generation.text import CONTEXT, TokenTexts

FLOOR = -9999.0  # what vLLM writes for -inf


class Speller:
    """Strings for the ids of one choice: placeholders (`token_id:7`) or display texts, which need the ids before."""

    def __init__(self, texts: TokenTexts, *, as_ids: bool, context: Sequence[int] = ()) -> None:
        self._texts = texts
        self._as_ids = as_ids
        self._context = list(context[-CONTEXT:])
        self.offset = 0  # characters of the strings so far

    def spell(self, ids: Iterable[int]) -> list[str]:
        """Strings of alternatives at the current position."""
        if self._as_ids:
            known = self._texts.placeholders
            return [known[i] if i < len(known) else f"token_id:{i}" for i in ids]
        return [self.display(i) for i in ids]

    def display(self, token_id: int) -> str:
        return self._texts.display(token_id, self._context)

    def advance(self, token_id: int, spelled: str) -> int:
        """Moves past a token; gives the offset at which its string began."""
        start = self.offset
        self.offset += len(spelled)
        self._context = [*self._context, token_id][-CONTEXT:]
        return start


def legacy_logprobs(speller: Speller, tokens: Sequence[Token]) -> dict[str, Any]:
    """`choices[].logprobs` of /v1/completions for the next tokens of a choice."""
    out = _empty_block()
    for token in tokens:
        names = speller.spell(token.top_ids)
        own = names[0] if names and not token.damaged else speller.spell([token.token_id])[0]
        _add(out, speller.advance(token.token_id, own), own, token.logprob, _top_map(names, token))
    return out


def echoed_logprobs(speller: Speller, positions: Sequence[PromptPosition | None], ids: Sequence[int]) -> dict[str, Any]:
    """The same for the ids of an echoed prompt; nothing is known of the first."""
    out = _empty_block()
    for token_id, position in zip(ids, positions, strict=True):
        own = speller.spell([token_id])[0]
        top = None if position is None else _floored(speller.spell(position.ids), position.logprobs)
        _add(out, speller.advance(token_id, own), own, position.logprobs[0] if position else None, top)
    return out


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two blocks of legacy logprobs, one after the other."""
    return {key: first[key] + second[key] for key in first}


def _empty_block() -> dict[str, Any]:
    return {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}


def _add(out: dict[str, Any], offset: int, token: str, logprob: float | None, top: object) -> None:
    out["text_offset"].append(offset)
    out["token_logprobs"].append(logprob if logprob is None else max(logprob, FLOOR))
    out["tokens"].append(token)
    out["top_logprobs"].append(top)


def _top_map(names: list[str], token: Token) -> object:
    if token.damaged:
        # Written by hand: a dict cannot repeat a key, and orjson writes NaN as null.
        pairs = (f"{json.dumps(n)}:{json.dumps(v)}" for n, v in zip(names, token.top_logprobs, strict=True))
        return orjson.Fragment("{" + ",".join(pairs) + "}")
    return _floored(names, token.top_logprobs)


def _floored(names: list[str], logprobs: list[float]) -> dict[str, float]:
    if logprobs and min(logprobs) < FLOOR:
        logprobs = [max(v, FLOOR) for v in logprobs]
    return dict(zip(names, logprobs, strict=True))


def chat_logprobs(speller: Speller, tokens: Sequence[Token], k: int) -> dict[str, Any]:
    """`choices[].logprobs` of /v1/chat/completions. As vLLM: the first `k` of the list, drawn token first."""
    content = []
    for token in tokens:
        names, values = speller.spell(token.top_ids)[:k], token.top_logprobs[:k]
        own, text = speller.spell([token.token_id])[0], speller.display(token.token_id)
        top = [_chat_entry(name, value, name) for name, value in zip(names, values, strict=True)]
        content.append({**_chat_entry(own, token.logprob, text), "top_logprobs": top})
        speller.advance(token.token_id, own)
    return {"content": content}


def _chat_entry(name: str, logprob: float | None, text: str) -> dict[str, Any]:
    value: object = None if logprob is None else max(logprob, FLOOR)
    if logprob is not None and logprob != logprob:
        value = orjson.Fragment("NaN")
    return {"token": name, "logprob": value, "bytes": list(text.encode())}


def prompt_logprobs(texts: TokenTexts, positions: Sequence[PromptPosition | None], ids: Sequence[int]) -> list[Any]:
    """`prompt_logprobs`: per id of the prompt a map from id to logprob, rank and text; null for the first."""
    return [
        None if position is None else _prompt_map(texts, position, ids[max(0, at - CONTEXT) : at])
        for at, position in enumerate(positions)
    ]


def _prompt_map(texts: TokenTexts, position: PromptPosition, context: Sequence[int]) -> dict[str, Any]:
    return {
        str(i): {"logprob": max(logprob, FLOOR), "rank": rank, "decoded_token": texts.display(i, context)}
        for i, logprob, rank in zip(position.ids, position.logprobs, position.ranks, strict=True)
    }


def usage(prompt_tokens: int, completion_tokens: int, cached: int | None) -> dict[str, Any]:
    """`usage`; vLLM leaves the details out when nothing was cached."""
    out: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }
    if cached:
        out["prompt_tokens_details"] = {"cached_tokens": cached}
    return out


def full_usage(prompt_tokens: int, completion_tokens: int, cached: int | None) -> dict[str, Any]:
    """`usage` of an answer that is not streamed: absent details are null."""
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    return {**details, **usage(prompt_tokens, completion_tokens, cached)}


def frame(payload: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


DONE = b"data: [DONE]\n\n"
