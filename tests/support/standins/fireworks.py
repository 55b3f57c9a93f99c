"""Fireworks' completions, as its client library has them: entries with ids in no order, and at most five of them."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.replay import Reply, Request, event, json_reply
from tests.support.standins.base import Asked, Position, Shown, StandIn
from tests.support.standins.oracle import TOKENIZER

_CODES = {401: "UNAUTHORIZED", 404: "NOT_FOUND", 429: "RATE_LIMIT_EXCEEDED", 400: "INVALID_ARGUMENT"}


@dataclass
class Fireworks(StandIn):
    max_k: int = 5
    shows_end: bool = True
    keys: list[str | None] = field(default_factory=list)  # prompt_cache_key of each call

    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            card = {"id": "tiny", "object": "model", "owned_by": "fireworks", "kind": "HF_BASE_MODEL"}
            return json_reply({"data": [card | {"context_length": 512, "supports_chat": True}], "object": "list"})
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        prompt, k = body["prompt"], body.get("top_logprobs", 0)
        self.keys.append(body.get("prompt_cache_key"))
        if body.get("logprobs") is not True:
            return self.error(400, "This stand-in knows logprobs: true alone.")
        if k > self.max_k:
            return self.error(400, f"top_logprobs must be less than or equal to {self.max_k} with logprobs")
        if isinstance(prompt, str):
            prompt = TOKENIZER.encode(prompt)
        if not isinstance(prompt[0], int) or body.get("echo"):
            return self.error(400, "This stand-in takes one prompt and echoes none.")
        forced = next((int(i) for i, bias in (body.get("logit_bias") or {}).items() if bias >= 100), None)
        return Asked(prompt, k, body["temperature"], body["max_tokens"], bool(body.get("stream")), forced)

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        shown, chunks, offset = Shown(), [], len(TOKENIZER.decode(asked.prefix))
        told = [position for position in answer if self.shows_end or not position.is_end]
        for position in told:
            text = shown.text(position.drawn)
            listed = {"content": [_entry(position, offset)]} if position.listed else None
            choice = {"index": 0, "text": text, "logprobs": listed, "finish_reason": None}
            chunks.append(event({"choices": [choice | {"token_ids": [position.drawn]}]}))
            offset += len(text)
        hidden = [position.drawn for position in answer[len(told) :]]
        end = {"index": 0, "text": "", "logprobs": None, "finish_reason": self.finish(answer), "token_ids": hidden}
        return [*chunks, event({"choices": [end], "usage": self._usage(answer, asked)})]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        content = [_entry(position, 0) for position in answer]
        ids = [position.drawn for position in answer]
        choice = {"index": 0, "text": TOKENIZER.decode(ids), "logprobs": {"content": content}, "token_ids": ids}
        return {"choices": [choice | {"finish_reason": self.finish(answer)}], "usage": self._usage(answer, asked)}

    def error_body(self, status: int, message: str) -> Any:
        if status in (413, 502, 504):  # a proxy's
            return f"<html><body>{message}</body></html>".encode()
        kind = "invalid_request_error" if status < 500 else "internal_server_error"
        return {"error": {"object": "error", "type": kind, "code": _CODES.get(status), "message": message}}

    def error_event(self) -> bytes:
        return event({"error": {"object": "error", "type": "internal_server_error", "message": "failed"}})

    def _usage(self, answer: list[Position], asked: Asked) -> dict[str, int]:
        return {"prompt_tokens": len(asked.prefix), "completion_tokens": self.drawn(answer)}


def _entry(position: Position, offset: int) -> dict[str, Any]:
    listed = list(zip(position.ids, position.logprobs, strict=True))
    ordered = sorted(listed)  # by id: in no order of probability
    return _named(position.drawn, position.own) | {
        "sampling_logprob": position.own,
        "text_offset": offset,
        "top_logprobs": [_named(i, value) for i, value in ordered],
    }


def _named(token_id: int, logprob: float) -> dict[str, Any]:
    raw = TOKENIZER.token_bytes(token_id)
    return {"token": raw.decode(errors="replace"), "token_id": token_id, "bytes": list(raw), "logprob": logprob}
