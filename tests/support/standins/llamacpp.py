"""llama.cpp's server: ids in every entry, and tokens inside a character that are swallowed until it is whole."""

from typing import Any

from tests.support.replay import Reply, Request, event, json_reply
from tests.support.standins.base import Asked, Position, Shown, StandIn
from tests.support.standins.oracle import SIZE, TOKENIZER

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    500: "server_error", 501: "not_supported_error", 503: "unavailable_error",
}  # fmt: skip


class LlamaCpp(StandIn):
    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            meta = {"n_vocab": SIZE, "n_ctx": 512}
            return json_reply({"data": [{"id": "tiny", "owned_by": "llamacpp", "meta": meta}]})
        if request.path == "/props":
            return json_reply({"build_info": "b7000", "total_slots": 1, "model_path": "tiny.gguf"})
        if request.path == "/tokenize":
            return json_reply({"tokens": TOKENIZER.encode(request.body["content"])})
        return json_reply({"status": "ok"}) if request.path == "/health" else None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        prompt = body["prompt"]
        if not (isinstance(prompt, list) and prompt and isinstance(prompt[0], int)) or body.get("echo"):
            return self.error(400, "Only no echo is supported")
        forced = next((int(i) for i, bias in body.get("logit_bias") or () if bias >= 100), None)
        k, stream = body["logprobs"], bool(body.get("stream"))
        form = self.form(body.get("json_schema"), body.get("grammar"))
        if isinstance(form, Reply):
            return form
        return Asked(prompt, k, body["temperature"], body["max_tokens"], stream, forced, form=form)

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        shown, chunks = Shown(), []
        for position in answer:
            text = shown.text(position.drawn)
            if not text and position.drawn not in TOKENIZER.special_ids:
                continue  # swallowed: what comes next has its text too
            entry = _entry(position.drawn, position.own, text.encode()) | {"top_logprobs": _listed(position)}
            logprobs = {"content": [entry]} if position.listed else None
            chunks.append(_chunk({"text": text, "logprobs": logprobs, "finish_reason": None}))
        end = {"text": "", "logprobs": None, "finish_reason": self.finish(answer)}
        return [*chunks, _chunk(end, completion_tokens=self.drawn(answer), prompt_tokens=len(asked.prefix))]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        shown = Shown()
        entries = [
            _entry(each.drawn, each.own, shown.text(each.drawn).encode()) | {"top_logprobs": _listed(each)}
            for each in answer
        ]
        choice = {"index": 0, "text": "", "logprobs": {"content": entries}, "finish_reason": self.finish(answer)}
        usage = {"prompt_tokens": len(asked.prefix), "completion_tokens": self.drawn(answer)}
        return {"choices": [choice], "usage": usage}

    def error_body(self, status: int, message: str) -> Any:
        if status in (413, 502, 504):  # a proxy's
            return f"<html><body>{message}</body></html>".encode()
        return {"error": {"code": status, "message": message, "type": _TYPES.get(status, "server_error")}}

    def error_event(self) -> bytes:
        return event({"error": {"code": 500, "message": "decode failed", "type": "server_error"}})


def _chunk(choice: dict[str, Any], **usage: int) -> bytes:
    return event({"choices": [{"index": 0} | choice]} | ({"usage": usage} if usage else {}))


def _listed(position: Position) -> list[dict[str, Any]]:
    return [_entry(i, value) for i, value in zip(position.ids, position.logprobs, strict=True)]


def _entry(token_id: int, logprob: float, text: bytes | None = None) -> dict[str, Any]:
    own = b"" if token_id in TOKENIZER.special_ids else TOKENIZER.token_bytes(token_id)
    return {"id": token_id, "token": "", "bytes": list(own if text is None else text), "logprob": logprob}
