"""Ollama's `/api/generate` with `raw`, as its documentation and users have it: lines, texts, no ids, a hidden end."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson

from tests.support.replay import Reply, Request, json_reply
from tests.support.standins.base import Asked, Position, Shown, StandIn
from tests.support.standins.oracle import END, SIZE, TOKENIZER


@dataclass
class Ollama(StandIn):
    replaces: bool = False  # parts of characters are shown as U+FFFD, as by older versions, and not left out
    drops_last: bool = False  # the last line has text, whose list is lost
    counts_end: bool = True  # its count has the token that ended the answer
    caches: bool = False  # its count of the prompt leaves out what it found in its cache, which it counts apart

    path: ClassVar[str] = "/api/generate"
    done: ClassVar[bytes] = b""
    comment: ClassVar[bytes] = b"\n"
    content_type: ClassVar[str] = "application/x-ndjson"

    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            return json_reply({"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "library"}]})
        if request.path == "/api/version":
            return json_reply({"version": "0.34.4"})
        if request.path == "/api/tags":
            return json_reply({"models": [{"name": "tiny", "digest": "4f1c"}]})
        if request.path == "/api/show":
            return json_reply({"model_info": {"llama.vocab_size": SIZE, "tokenizer.ggml.eos_token_id": END}})
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        if not body.get("raw") or not isinstance(body["prompt"], str) or body.get("truncate", True):
            return self.error(400, "this stand-in is asked with raw prompts that must not be cut")
        k, options = body["top_logprobs"], body["options"]
        if k > self.max_k:
            return self.error(400, f"top_logprobs must be between 0 and {self.max_k}")
        if options["top_k"] != 0 or options["top_p"] != 1 or options["repeat_penalty"] != 1 or options["stop"]:
            return self.error(400, "this stand-in wants neutral samplers")
        prefix, stream = TOKENIZER.encode(body["prompt"]), body.get("stream", True)
        return Asked(prefix, k, options["temperature"], options["num_predict"], stream)

    def answer(self, asked: Asked) -> list[Position]:
        """Where it is hot, what it draws is a token that is shown."""
        if asked.temperature < 2:
            return super().answer(asked)
        with_dot = replace(self, script=[ord(".")] * asked.max_tokens, spoil=self.spoil)
        return StandIn.answer(with_dot, asked)

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        lines = [_line({"response": text, "done": False} | told) for text, told in self._shown(answer)]
        last: dict[str, Any] = {"response": ""}
        if self.drops_last and lines:
            last = {"response": orjson.loads(lines.pop())["response"]}
        return [*lines, _line(last | self._end(answer, asked))]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        told = self._shown(answer)
        logprobs = [entry for _, each in told for entry in each.get("logprobs", ())]
        return {"response": "".join(text for text, _ in told), "logprobs": logprobs} | self._end(answer, asked)

    def error_body(self, status: int, message: str) -> Any:
        return {"error": message}

    def error_event(self) -> bytes:
        return _line({"error": "an error was encountered while running the model"})

    def _shown(self, answer: list[Position]) -> list[tuple[str, dict[str, Any]]]:
        """Texts with the list of the last token that each holds; nothing of tokens that have no text."""
        shown, told = Shown(), []
        for position in answer:
            text = shown.text(position.drawn)
            if text:
                entry = _entry(text, position.own) | {"top_logprobs": self._listed(position)}
                told.append((text, {"logprobs": [entry]} if position.listed else {}))
        return told

    def _end(self, answer: list[Position], asked: Asked) -> dict[str, Any]:
        drawn = self.drawn(answer) - (not self.counts_end and self.finish(answer) == "stop")
        counts = {"prompt_eval_count": len(asked.prefix), "eval_count": drawn}
        if self.caches:
            counts |= {"prompt_eval_count": len(asked.prefix) - 1, "prompt_eval_cached_count": 1}
        return {"done": True, "done_reason": self.finish(answer)} | {name: n for name, n in counts.items() if n}

    def _listed(self, position: Position) -> list[dict[str, Any]]:
        return [_entry(self._text(i), value) for i, value in zip(position.ids, position.logprobs, strict=True)]

    def _text(self, token_id: int) -> str:
        """What is shown of an alternative: nothing of special tokens, and of a part of a character nothing either."""
        if token_id in TOKENIZER.special_ids:
            return ""
        return TOKENIZER.token_bytes(token_id).decode(errors="replace" if self.replaces else "ignore")


def _entry(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _line(told: dict[str, Any]) -> bytes:
    return orjson.dumps({"model": "tiny", "created_at": "2026-09-01T00:00:00Z"} | told) + b"\n"
