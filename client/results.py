"""What calls give back, and how it is read from the wire."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether requests are answered, and if not, why."""

    ready: bool
    problems: tuple[str, ...]

    @classmethod
    def read(cls, body: Json) -> Self:
        return cls(body["status"] == "ready", tuple(map(str, body["problems"])))


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One served name. `max_context` (tokens) and `fingerprint` are None where the server does not say."""

    id: str
    max_context: int | None
    fingerprint: str | None

    @classmethod
    def read(cls, body: Json) -> Self:
        return cls(str(body["id"]), body.get("max_model_len"), body.get("system_fingerprint"))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids of a text; `max_context` is what prompt and answer may have together."""

    ids: tuple[int, ...]
    max_context: int

    @classmethod
    def read(cls, body: Json) -> Self:
        return cls(tuple(map(int, body["tokens"])), int(body["max_model_len"]))


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What a client needs to know of the tokenizer without having it; vLLM does not tell the vocabulary's size."""

    vocab_size: int | None
    max_context: int
    bos_token: str | None
    eos_token: str | None
    turn_end_token: str | None  # behind an assistant's words in a chat; only deltaserve tells it
    chat_template: str | None
    added_tokens: Mapping[int, str] = field(default_factory=dict)  # by id

    @classmethod
    def read(cls, body: Json) -> Self:
        added = body.get("added_tokens_decoder") or {}
        return cls(
            vocab_size=body.get("vocab_size"),
            max_context=int(body["model_max_length"]),
            bos_token=body["bos_token"],
            eos_token=body["eos_token"],
            turn_end_token=body.get("turn_end_token"),
            chat_template=body["chat_template"],
            added_tokens={int(token_id): str(token) for token_id, token in added.items()},
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, or the next piece of one: then `name` is empty, and `arguments` go on."""

    index: int  # among the calls of its answer
    name: str
    arguments: str  # JSON; cut where the answer was

    @classmethod
    def read(cls, call: Json, at: int) -> Self:
        function = call.get("function") or {}
        return cls(int(call.get("index", at)), str(function.get("name") or ""), str(function.get("arguments") or ""))


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished answer. `fingerprint` names the offset version that gave it."""

    text: str
    finish_reason: str | None
    model: str
    fingerprint: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning: str = ""  # what the model thought before it answered
    tool_calls: tuple[ToolCall, ...] = ()

    @classmethod
    def read(cls, body: Json) -> Self:
        choice, usage = body["choices"][0], body.get("usage") or {}
        return cls(
            text=text_of(choice),
            finish_reason=choice["finish_reason"],
            model=str(body["model"]),
            fingerprint=body.get("system_fingerprint"),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            reasoning=reasoning_of(choice),
            tool_calls=calls_of(choice),
        )


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """Log-probabilities (nats) of a prompt's tokens; of the first nothing is known. Both have one entry a token."""

    logprobs: tuple[float | None, ...]
    alternatives: tuple[tuple[float, ...] | None, ...]  # of the most probable tokens and the prompt's own

    @classmethod
    def read(cls, body: Json, tokens: int) -> Self:
        """From a completion's `logprobs`. Raises ValueError unless it has `tokens` entries, finite beyond the first."""
        own, tops = body["token_logprobs"], body["top_logprobs"]
        if not len(own) == len(tops) == tokens or not all(map(_is_logprob, own[1:])):
            raise ValueError("not every token of the prompt has a log-probability")
        listed = (None if top is None else tuple(map(float, top.values())) for top in tops)
        return cls(tuple(own), tuple(listed))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer; the last one has the finish reason."""

    text: str
    finish_reason: str | None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    @classmethod
    def read(cls, body: Json) -> "Piece | None":
        """None for a frame without a choice: the usage that comes last."""
        choices: Sequence[Json] = body["choices"]
        if not choices:
            return None
        choice = choices[0]
        return cls(text_of(choice), choice.get("finish_reason"), reasoning_of(choice), calls_of(choice))


def text_of(choice: Json) -> str:
    """The text of a completion's or a chat's choice, whole or in part."""
    return str(choice["text"]) if "text" in choice else str(_message(choice).get("content") or "")


def reasoning_of(choice: Json) -> str:
    """What a chat's choice has thought, whole or in part, under either of the names that servers give it."""
    message = {} if "text" in choice else _message(choice)
    return str(message.get("reasoning_content") or message.get("reasoning") or "")


def calls_of(choice: Json) -> tuple[ToolCall, ...]:
    """The calls of a chat's choice, whole or in part."""
    calls: Sequence[Json] = () if "text" in choice else _message(choice).get("tool_calls") or ()
    return tuple(ToolCall.read(call, at) for at, call in enumerate(calls))


def _message(choice: Json) -> Json:
    message: Json = choice["delta"] if "delta" in choice else choice["message"]
    return message


def _is_logprob(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value <= 1e-3  # rounding above 0 is harmless
