"""Together's completions, as its client library has them: the drawn token beside the choices, one map of texts."""

from dataclasses import dataclass
from typing import Any

from tests.support.replay import Reply, Request, event, json_reply
from tests.support.standins.base import Asked, Position, Shown, StandIn
from tests.support.standins.oracle import TOKENIZER


@dataclass
class Together(StandIn):
    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            card = {"id": "tiny", "object": "model", "type": "language", "organization": "Org", "pricing": {"input": 1}}
            return json_reply([card | {"context_length": 512}])
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        k = body["logprobs"]
        if not isinstance(body["prompt"], str):
            return self.error(422, "prompt: Input should be a valid string")
        if k > self.max_k:
            return self.error(400, f"logprobs must be less than or equal to {self.max_k}")
        bias = body.get("logit_bias") or {}
        forced = next((int(i) for i, value in bias.items() if value >= 100), None) if len(bias) == 1 else None
        prefix = TOKENIZER.encode(body["prompt"])
        return Asked(prefix, k, body["temperature"], body["max_tokens"], bool(body.get("stream")), forced)

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        shown = Shown()
        chunks = [self._chunk(position, shown.text(position.drawn)) for position in answer]
        end = {"index": 0, "text": "", "finish_reason": self.finish(answer)}
        return [*chunks, event({"choices": [end], "usage": self._usage(answer, asked)})]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        columns = {
            "tokens": [_text(position.drawn) for position in answer],
            "token_ids": [float(position.drawn) for position in answer],
            "token_logprobs": [position.own for position in answer],
            "top_logprobs": [_table(position) for position in answer],
        }
        text = TOKENIZER.decode([position.drawn for position in answer])
        choice = {"index": 0, "text": text, "logprobs": columns, "finish_reason": self.finish(answer)}
        return {"choices": [choice], "usage": self._usage(answer, asked)}

    def finish(self, answer: Any) -> str:
        return {"stop": "eos"}.get(said := super().finish(answer), said)

    def error_body(self, status: int, message: str) -> Any:
        if status in (502, 504, 529):
            return f"<html><body>{message}</body></html>".encode()
        return {"id": "o1", "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}

    def error_event(self) -> bytes:
        return event({"error": {"message": "Internal server error", "type": "server_error", "code": None}})

    def _chunk(self, position: Position, text: str) -> bytes:
        special = position.drawn in TOKENIZER.special_ids
        token = {"id": position.drawn, "text": _text(position.drawn), "logprob": position.own, "special": special}
        choice: dict[str, Any] = {"index": 0, "text": text, "delta": {"role": "assistant", "content": text}}
        if position.listed:
            choice |= {"logprobs": position.own, "top_logprobs": _table(position)}
        return event({"id": "o1", "object": "completion.chunk", "choices": [choice], "token": token, "usage": None})

    def _usage(self, answer: list[Position], asked: Asked) -> dict[str, int]:
        return {"prompt_tokens": len(asked.prefix), "completion_tokens": self.drawn(answer)}


def _table(position: Position) -> dict[str, float]:
    """Of several tokens that look alike the last one is left."""
    return {_text(i): value for i, value in zip(position.ids, position.logprobs, strict=True)}


def _text(token_id: int) -> str:
    return TOKENIZER.token_bytes(token_id).decode(errors="replace")
