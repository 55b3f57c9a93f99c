"""Answers of a running server, each judged by the validator and token by token."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2 as httpx
from llguidance import LLMatcher, LLTokenizer

from benchmarks.schemas.checking import fault
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.constraints.grammar import parsing_vocabulary
from deltaserve.server.grammars.json_schema import json_grammar

LONGEST: Final = 160  # tokens of an answer
AT_ONCE: Final = 8
_LIFT: Final = 6.0  # by which a small model's closing tokens are lifted, so that its texts and lists end
_CLOSING: Final = frozenset('"]}')


@dataclass(frozen=True, slots=True)
class Asked:
    """A schema, and the draft that judges it (None: as it says itself)."""

    name: str
    schema: Any
    draft: str | None = None


@dataclass(slots=True)
class Judged:
    """Of one way of asking."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    ids: dict[int, list[int]] = field(default_factory=dict)  # of each answer, by its schema's number

    def unlike(self, other: "Judged") -> int:
        """Answers that are not those of the other way."""
        return sum(ids != other.ids[number] for number, ids in self.ids.items())


@dataclass(frozen=True, slots=True)
class Judge:
    """Knows the tokenizer's ids, and asks the server at `url`."""

    url: str
    tokenizer: Tokenizer
    vocabulary: LLTokenizer

    @classmethod
    def of(cls, url: str, tokenizer: Tokenizer) -> "Judge":
        return cls(url, tokenizer, parsing_vocabulary(tokenizer))

    async def judge(self, schemas: Sequence[Asked], temperature: float, stream: bool) -> Judged:
        """Every schema once."""
        judged, places = Judged(), asyncio.Semaphore(AT_ONCE)
        async with httpx.AsyncClient(base_url=self.url, timeout=120) as client:

            async def one(number: int, asked: Asked) -> None:
                async with places:
                    body = self._body(asked, number, temperature, stream)
                    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
                    answer = await _answer(client, path, body)
                    judged.ids[number] = answer.ids
                    self._count(asked, judged, answer)

            await asyncio.gather(*(one(number, asked) for number, asked in enumerate(schemas)))
        return judged

    def _body(self, asked: Asked, number: int, temperature: float, stream: bool) -> dict[str, Any]:
        """Chats with `response_format` and completions with `structured_outputs`, in turn."""
        bias = {str(i): _LIFT for i in range(self.tokenizer.vocab_size) if self._closes(i)}
        body: dict[str, Any] = {"max_tokens": LONGEST, "temperature": temperature, "stream": stream, "seed": number}
        body |= {"logit_bias": bias, "return_token_ids": True}
        if number % 2 and isinstance(asked.schema, dict):
            named = {"name": "answer", "schema": asked.schema, "strict": True}
            form = {"response_format": {"type": "json_schema", "json_schema": named}}
            return {**body, **form, "messages": [{"role": "user", "content": f"{asked.name}, as JSON, please."}]}
        return {**body, "prompt": f"{asked.name} as JSON: ", "structured_outputs": {"json": asked.schema}}

    def _closes(self, token_id: int) -> bool:
        text = self.tokenizer.token_text(token_id).strip()
        return bool(text) and text[0] in _CLOSING

    def _count(self, asked: Asked, judged: Judged, answer: "Answer") -> None:
        judged.counts["answers"] += 1
        judged.counts["tokens"] += len(answer.ids)
        if answer.error is not None:
            judged.counts["errors"] += 1
            judged.faults.append(f"{asked.name}: {answer.error}")
            return
        judged.counts["invalid tokens"] += self._not_allowed(asked, answer.ids)
        if answer.finish_reason != "stop":
            return
        judged.counts["finished"] += 1
        why = fault(asked.schema, answer.text, asked.draft)
        if why is not None:
            judged.counts["invalid answers"] += 1
            judged.faults.append(f"{asked.name}: {why}: {answer.text[:200]}")

    def _not_allowed(self, asked: Asked, ids: Sequence[int]) -> int:
        """Tokens that the grammar does not allow where they stand; the one that ends an answer is none of its text."""
        matcher = LLMatcher(self.vocabulary, json_grammar(asked.schema).text, log_level=0)
        inside = [i for i in ids if i not in self.tokenizer.special_ids]
        return len(inside) - matcher.try_consume_tokens(inside)


@dataclass(slots=True)
class Answer:
    text: str = ""
    ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    error: str | None = None

    def add(self, choice: dict[str, Any]) -> None:
        said = choice.get("delta") or choice.get("message") or choice
        self.text += said.get("text") or said.get("content") or ""
        self.ids += choice.get("token_ids") or ()
        self.finish_reason = choice["finish_reason"] or self.finish_reason


async def _answer(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Answer:
    answer = Answer()
    async for event in _events(client, path, body):
        if "error" in event:
            answer.error = event["error"]["message"]
        for choice in event.get("choices", ()):
            answer.add(choice)
    return answer


async def _events(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    if not body["stream"]:
        yield (await client.post(path, json=body)).json()
        return
    async with client.stream("POST", path, json=body) as response:
        raw = await response.aread()
    if response.status_code != 200:
        yield json.loads(raw)
        return
    for frame in raw.split(b"\n\n"):
        if frame.startswith(b"data: {"):
            yield json.loads(frame.removeprefix(b"data: "))
