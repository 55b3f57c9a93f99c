"""OpenAI's legacy completions: token strings in a map, `bytes:` for what is no text, an end that is not listed."""

from dataclasses import dataclass
from typing import Any

from tests.support.replay import Reply, Request, event, json_reply
from tests.support.standins.base import Asked, Position, Shown, StandIn
from tests.support.standins.oracle import TOKENIZER

_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


@dataclass
class OpenAI(StandIn):
    max_k: int = 5
    takes_ids: bool = True

    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            return json_reply({"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "system"}]})
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        prompt, k = body["prompt"], body["logprobs"]
        if k > self.max_k:
            return self.error(400, f"Invalid value for 'logprobs': must be less than or equal to {self.max_k}.")
        if isinstance(prompt, str):
            prompt = TOKENIZER.encode(prompt)
        elif not self.takes_ids or not isinstance(prompt[0], int) or body.get("echo"):
            return self.error(400, "'prompt' must be a string.")
        return Asked(prompt, k, body["temperature"], body["max_tokens"], bool(body.get("stream")))

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        shown, chunks, offset = Shown(), [], len(TOKENIZER.decode(asked.prefix))
        for position in answer:
            if position.is_end:
                continue
            text = shown.text(position.drawn)
            logprobs = _columns([position], [offset]) if position.listed else None
            chunks.append(event({"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": None}]}))
            offset += len(text)
        end = {"index": 0, "text": "", "logprobs": None, "finish_reason": self.finish(answer)}
        usage = {"choices": [], "usage": self._usage(answer, asked)}
        return [*chunks, event({"choices": [end], "usage": None}), event(usage)]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        told = [position for position in answer if not position.is_end]
        text = TOKENIZER.decode([position.drawn for position in told])
        columns = _columns(told, [0] * len(told))
        choice = {"index": 0, "text": text, "logprobs": columns, "finish_reason": self.finish(answer)}
        return {"choices": [choice], "usage": self._usage(answer, asked)}

    def error_body(self, status: int, message: str) -> Any:
        if status in (413, 502, 504):  # a proxy's
            return f"<html><body>{message}</body></html>".encode()
        return {
            "error": {"message": message, "type": "invalid_request_error", "param": None, "code": _CODES.get(status)}
        }

    def error_event(self) -> bytes:
        return event({"error": {"message": "The server had an error", "type": "server_error", "code": None}})

    def _usage(self, answer: list[Position], asked: Asked) -> dict[str, int]:
        told = [position for position in answer if not position.is_end]
        return {"prompt_tokens": len(asked.prefix), "completion_tokens": self.drawn(told)}


def _columns(answer: list[Position], offsets: list[int]) -> dict[str, Any]:
    return {
        "tokens": [spelled(position.drawn) for position in answer],
        "token_logprobs": [position.own for position in answer],
        "top_logprobs": [_table(position) for position in answer],
        "text_offset": offsets,
    }


def _table(position: Position) -> dict[str, float]:
    """In no order, with the drawn token beside the best where it is not one of them."""
    listed = {position.drawn: position.own} | dict(zip(position.ids, position.logprobs, strict=True))
    return {spelled(i): listed[i] for i in sorted(listed)}


def spelled(token_id: int) -> str:
    """A token as text, or its bytes where it is none."""
    raw = TOKENIZER.token_bytes(token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
