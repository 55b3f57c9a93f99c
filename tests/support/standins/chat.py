"""A chat route without ids: vLLM's or SGLang's behind a gateway, DeepSeek's, OpenRouter's."""

from dataclasses import dataclass
from typing import Any, ClassVar

from tests.support.replay import Reply, Request, event, json_reply
from tests.support.standins.base import Asked, Position, Shown, StandIn
from tests.support.standins.oracle import TOKENIZER

Message = dict[str, Any]


@dataclass
class Chat(StandIn):
    """vLLM's, of which a gateway left texts."""

    continues: bool = True  # behind the beginning of an answer; else a new turn begins
    trims: bool = False  # white space at the end of that beginning is cut off
    system_prompt: bool = False  # one is added that nobody asked for
    thinks: bool = False
    owner: str = "openai"

    path: ClassVar[str] = "/v1/chat/completions"
    most: ClassVar[int] = 20

    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            card = {"id": "tiny", "object": "model", "created": 1677610602, "owned_by": self.owner}
            return json_reply({"object": "list", "data": [card]})
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        k = body["top_logprobs"]
        if not body.get("logprobs") or k > min(self.max_k, self.most):
            limit = min(self.max_k, self.most)
            return self.error(400, f"Requested sample logprobs of {k}, which is greater than max allowed: {limit}")
        messages = [{"role": "system", "content": "Be kind."}] if self.system_prompt else []
        prefix = TOKENIZER.encode(self._text([*messages, *body["messages"]], body))
        forced = self._forced(body)
        return Asked(prefix, k, body["temperature"], body["max_tokens"], bool(body.get("stream")), forced)

    def begun(self, body: dict[str, Any]) -> bool:
        """Whether its last message is the beginning of the answer."""
        return bool(body.get("continue_final_message")) and not body.get("add_generation_prompt", True)

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        shown, role = Shown(), _chunk(self.extra(), {"role": "assistant", "content": ""})
        chunks = [self._token(position, shown) for position in answer if self.shows(position)]
        chunks[:1] = [role + chunk for chunk in chunks[:1]] or [role]
        end = _chunk(self.extra(), {}, reason=self.finish(answer))
        usage = event({"choices": [], "usage": self._usage(answer, asked)} | self.extra())
        return [*chunks, end, usage]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        shown = [position for position in answer if self.shows(position)]
        text = TOKENIZER.decode([each.drawn for each in shown if each.drawn not in TOKENIZER.special_ids])
        logprobs = {"content": [self._entry(position) for position in shown]}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": self.finish(answer)}
        return {"choices": [choice], "usage": self._usage(answer, asked)} | self.extra()

    def error_body(self, status: int, message: str) -> Any:
        if status in (413, 502, 504):
            return f"<html><body>{message}</body></html>".encode()
        return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": str(status)}}

    def error_event(self) -> bytes:
        return event({"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError"}})

    # how vendors differ

    def listed(self, position: Position) -> list[tuple[int, float]]:
        """vLLM: the drawn token first, then the best, k in all."""
        best = list(zip(position.ids, position.logprobs, strict=True))
        others = [(i, value) for i, value in best if i != position.drawn]
        return [(position.drawn, dict(best).get(position.drawn, position.own)), *others][: len(best)]

    def text_of(self, token_id: int) -> str:
        """vLLM: a part of a character is shown as nothing."""
        try:
            return TOKENIZER.token_bytes(token_id).decode()
        except UnicodeDecodeError:
            return ""

    def shows(self, position: Position) -> bool:
        return True

    def extra(self) -> dict[str, Any]:
        """Further fields of every chunk."""
        return {}

    def _forced(self, body: dict[str, Any]) -> int | None:
        bias = body.get("logit_bias") or {}
        return next((int(i) for i, value in bias.items() if value >= 100), None) if len(bias) == 1 else None

    def _text(self, messages: list[Message], body: dict[str, Any]) -> str:
        if messages[-1]["role"] != "assistant" or not (self.continues and self.begun(body)):
            return TOKENIZER.render_chat(messages)
        if self.trims:
            messages = [*messages[:-1], messages[-1] | {"content": messages[-1]["content"].rstrip()}]
        return TOKENIZER.render_chat(messages, add_generation_prompt=False, continue_final_message=True)

    def _token(self, position: Position, shown: Shown) -> bytes:
        said: Message = {"content": shown.text(position.drawn)}
        if self.thinks:
            said = {"reasoning_content": said["content"]}
        return _chunk(self.extra(), said, {"content": [self._entry(position)]} if position.listed else None)

    def _entry(self, position: Position) -> dict[str, Any]:
        listed = [self._told(i, value) for i, value in self.listed(position)]
        return self._told(position.drawn, position.own) | {"top_logprobs": listed}

    def _told(self, token_id: int, logprob: float) -> dict[str, Any]:
        text = self.text_of(token_id)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _usage(self, answer: list[Position], asked: Asked) -> dict[str, int]:
        return {"prompt_tokens": len(asked.prefix), "completion_tokens": self.drawn(answer)}


@dataclass
class DeepSeek(Chat):
    """The best k, whatever was drawn; the end is not shown."""

    certain: bool = False  # one token has all of the probability, as of some of its models
    owner: str = "deepseek"

    path: ClassVar[str] = "/beta/chat/completions"

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        if body.get("thinking") != {"type": "disabled"} or body.keys() & {"seed", "n", "continue_final_message"}:
            return self.error(400, "this stand-in is asked without thinking, and with its own fields alone")
        return super().asked(body)

    def begun(self, body: dict[str, Any]) -> bool:
        return body["messages"][-1].get("prefix") is True

    def listed(self, position: Position) -> list[tuple[int, float]]:
        told = list(zip(position.ids, position.logprobs, strict=True))
        return [(i, 0.0 if at == 0 else -9999.0) for at, (i, _) in enumerate(told)] if self.certain else told

    def text_of(self, token_id: int) -> str:
        return TOKENIZER.token_bytes(token_id).decode(errors="replace")

    def shows(self, position: Position) -> bool:
        if self.certain:
            position.own = 0.0
        return not position.is_end

    def drawn(self, answer: Any) -> int:
        return super().drawn([position for position in answer if not position.is_end])

    def error_body(self, status: int, message: str) -> Any:
        return {
            "error": {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_request"}
        }


@dataclass
class OpenRouter(Chat):
    """One of several providers answers: the pinned one, or any other where none is pinned."""

    falls_over_at: int | None = None  # call which another provider answers all the same
    calls: int = 0

    comment: ClassVar[bytes] = b": OPENROUTER PROCESSING\n\n"

    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            card = {"id": "tiny", "name": "Tiny", "supported_parameters": ["logprobs"], "top_provider": {}}
            return json_reply({"data": [card | {"context_length": 512, "pricing": {"prompt": "0"}}]})
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        routing = body.get("provider") or {}
        if routing.get("only") != ["mine/fp8"] or routing.get("allow_fallbacks") or body["transforms"]:
            return self.error(404, "No endpoints found that can handle the requested parameters.")
        self.calls += 1
        return super().asked(body)

    def begun(self, body: dict[str, Any]) -> bool:
        return True  # a provider that goes on behind an answer's beginning does so unasked

    def extra(self) -> dict[str, Any]:
        another = self.falls_over_at is not None and self.calls >= self.falls_over_at
        return {"provider": "Another" if another else "Mine"}

    def error_body(self, status: int, message: str) -> Any:
        return {"error": {"message": message, "code": status, "metadata": {"provider_name": "Mine"}}}

    def error_event(self) -> bytes:
        error = {"code": 502, "message": "Provider disconnected"}
        return event({"error": error, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]})


def _chunk(
    extra: dict[str, Any], said: Message, logprobs: dict[str, Any] | None = None, *, reason: str | None = None
) -> bytes:
    return event({"choices": [{"index": 0, "delta": said, "logprobs": logprobs, "finish_reason": reason}]} | extra)
