"""Tokens and their logprobs as JSON fragments: each id is spelled once, answers are put together from bytes."""

from collections.abc import Sequence
from typing import Protocol

import orjson

from deltaserve.server.api.replies.places import Places
from deltaserve.server.decoding.scoring import ScoredToken
from deltaserve.server.decoding.stream import Step
from deltaserve.server.serving.ports import Tokenizer

_FLOOR = -9999.0  # what OpenAI shows for a probability of nothing; JSON has no infinity


class Spelling:
    """JSON of token strings and their bytes, by id; made on first use, at most one entry per vocabulary id."""

    def __init__(self, tokenizer: Tokenizer, as_ids: bool) -> None:
        self._tokenizer = tokenizer
        self._as_ids = as_ids
        self._names: dict[int, bytes] = {}
        self._entries: dict[int, bytes] = {}

    def name(self, token_id: int) -> bytes:
        """The token as a JSON string: its text, `bytes:\\x..` inside a character, `token_id:7` where ids are wanted."""
        known = self._names.get(token_id)
        if known is None:
            known = self._names[token_id] = orjson.dumps(self._name(token_id))
        return known

    def entry(self, token_id: int) -> bytes:
        """`{"token":…,"bytes":[…],"logprob":` : the part of a chat entry that does not change."""
        known = self._entries.get(token_id)
        if known is None:
            raw = orjson.dumps(list(self._tokenizer.token_bytes(token_id)))
            known = self._entries[token_id] = b'{"token":%b,"bytes":%b,"logprob":' % (self.name(token_id), raw)
        return known

    def _name(self, token_id: int) -> str:
        if self._as_ids:
            return f"token_id:{token_id}"
        raw = self._tokenizer.token_bytes(token_id)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class Logprobs(Protocol):
    """Collects steps; `flush` is the JSON of those since the last flush."""

    def add(self, steps: Sequence[Step | ScoredToken]) -> None: ...
    def flush(self) -> bytes: ...


class NoLogprobs:
    def add(self, steps: Sequence[Step | ScoredToken]) -> None:
        """Nothing is kept."""

    def flush(self) -> bytes:
        return b"null"


class LegacyLogprobs:
    """The four lists of /v1/completions. `text_offset` counts characters from the start of the choice's text."""

    def __init__(self, spelling: Spelling, places: Places) -> None:
        self._spelling = spelling
        self._places = places
        self._clear()

    def _clear(self) -> None:
        self._offsets: list[bytes] = []
        self._logprobs: list[bytes] = []
        self._names: list[bytes] = []
        self._tops: list[bytes] = []

    def add(self, steps: Sequence[Step | ScoredToken]) -> None:
        for step in steps:
            name, logprob = self._spelling.name(step.token_id), _number(step.logprob)
            self._offsets.append(b"%d" % self._place(step))
            self._logprobs.append(logprob)
            self._names.append(name)
            self._tops.append(self._top(step, name, logprob))

    def _place(self, step: Step | ScoredToken) -> int:
        if isinstance(step, ScoredToken):
            return next(self._places.of_prompt)
        return self._places.of_answer(step.token_id)

    def _top(self, step: Step | ScoredToken, name: bytes, logprob: bytes) -> bytes:
        """The most probable tokens and this one; of two with one spelling the more probable stays."""
        if step.logprob is None:
            return b"null"
        alternatives: dict[bytes, bytes] = {}
        for token_id, value in _alternatives(step):
            alternatives.setdefault(self._spelling.name(token_id), _number(value))
        alternatives.setdefault(name, logprob)
        return b"{%b}" % b",".join(b"%b:%b" % pair for pair in alternatives.items())

    def flush(self) -> bytes:
        logprobs = b'{"text_offset":[%b],"token_logprobs":[%b],"tokens":[%b],"top_logprobs":[%b]}' % (
            b",".join(self._offsets),
            b",".join(self._logprobs),
            b",".join(self._names),
            b",".join(self._tops),
        )
        self._clear()
        return logprobs


class ChatLogprobs:
    """`{"content": [...], "refusal": null}` of /v1/chat/completions."""

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._entries: list[bytes] = []

    def add(self, steps: Sequence[Step | ScoredToken]) -> None:
        entry = self._spelling.entry
        for step in steps:
            top = b",".join(b"%b%b}" % (entry(i), _number(value)) for i, value in _alternatives(step))
            self._entries.append(b'%b%b,"top_logprobs":[%b]}' % (entry(step.token_id), _number(step.logprob), top))

    def take(self) -> list[bytes]:
        """The entries since the last flush, one for each token."""
        entries, self._entries = self._entries, []
        return entries

    def flush(self) -> bytes:
        return b'{"content":[%b],"refusal":null}' % b",".join(self.take())


def _alternatives(step: Step | ScoredToken) -> list[tuple[int, float]]:
    if step.top is None:
        return []
    ids, values = step.top
    return list(zip(ids.tolist(), values.tolist(), strict=True))


def _number(value: float | None) -> bytes:
    return b"null" if value is None else orjson.dumps(max(value, _FLOOR))
