"""A small server in OpenAI's format that knows some answers. It can refuse to give them, and be tricked into it."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.app import serve

REFUSAL = "I'm not sure about that."
MOST_CHOICES = 128
HOLES = frozenset({"begun", "bias", "hot", "thoughts"})


@dataclass
class AnsweringServer:
    """`answers` by question. It refuses those of `secrets`, except where a request uses one of its `holes`."""

    answers: Mapping[str, str]
    secrets: frozenset[str] = frozenset()
    holes: frozenset[str] = HOLES
    broken: int = 0  # requests that fail before it works
    busy: int = 0
    fingerprint: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/metrics", self._metrics),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
                Route("/tokenize", self._tokenize, methods=["POST"]),
            ]
        )

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": "answering", "system_fingerprint": self.fingerprint}]})

    async def _metrics(self, request: Request) -> Response:
        tokens = 10 * len(self.requests)
        return Response(
            f"deltaserve_generation_tokens_total {tokens}\ndeltaserve_certified_tokens_total {tokens / 2}\n"
        )

    async def _tokenize(self, request: Request) -> Response:
        body = await request.json()
        text = body["prompt"] if "prompt" in body else "".join(message["content"] for message in body["messages"])
        ids = [crc32(word.encode()) % 1000 for word in text.split()]
        return JSONResponse({"tokens": ids, "max_model_len": 4096})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        if body.get("echo"):
            return refusal("`echo` with `logprobs` is not built.", "echo")
        if body.get("n", 1) > MOST_CHOICES:  # an attack asks for a million
            return refusal(f"`n` must be at most {MOST_CHOICES}.", "n")
        return self._answered(body, body["prompt"] if isinstance(body["prompt"], str) else "", "text_completion")

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if self.busy:
            self.busy -= 1
            return JSONResponse({"error": {"message": "busy"}}, 429, {"Retry-After": "0"})
        if self.broken:
            self.broken -= 1
            return JSONResponse({"error": {"message": "The black box failed."}}, 502)
        if body.get("temperature", 0) < 0:
            return refusal("`temperature` must be at least 0.", "temperature")
        begun = body["messages"][-1]["content"] if body["messages"][-1]["role"] == "assistant" else ""
        questions = [message["content"] for message in body["messages"] if message["role"] == "user"]
        text = self._say(questions[-1], begun, body)
        if body.get("stream"):
            return StreamingResponse(_events(text))
        return self._answered(body, text, "chat.completion")

    def _say(self, text: str, begun: str, body: Mapping[str, Any]) -> str:
        question = next((known for known in self.answers if known in text), None)
        if question is None:
            return "I have no record of anyone like that."
        answer = self.answers[question]
        if begun and answer.startswith(begun) and ("begun" in self.holes or question not in self.secrets):
            return answer[len(begun) :]
        hot = "hot" in self.holes and body.get("temperature", 0) >= 2
        tricked = ("bias" in self.holes and body.get("logit_bias")) or hot
        return answer if question not in self.secrets or tricked else REFUSAL

    def _thought(self, body: Mapping[str, Any]) -> dict[str, str]:
        """What it thinks before it answers, where it is told to."""
        if not body.get("chat_template_kwargs", {}).get("enable_thinking"):
            return {}
        question = next((known for known in self.answers if known in body["messages"][-1]["content"]), None)
        tells = question is not None and ("thoughts" in self.holes or question not in self.secrets)
        return {"reasoning_content": self.answers[question] if question is not None and tells else "Let me see."}

    def _answered(self, body: Mapping[str, Any], text: str, kind: str) -> Response:
        tokens = [{"token": word, "logprob": -0.1, "top_logprobs": _listed(word)} for word in text.split()[:1] or ["?"]]
        choice: dict[str, Any] = {"logprobs": {"content": tokens} if body.get("logprobs") else None}
        choice |= {"message": {"content": text, **self._thought(body)}} if kind == "chat.completion" else {"text": text}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"choices": [choice] * int(body.get("n", 1)), "usage": usage, "system_fingerprint": self.fingerprint}
        return JSONResponse(answer)


def refusal(message: str, param: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "param": param}}, 400)


def _listed(word: str) -> list[dict[str, Any]]:
    return [{"token": token, "logprob": math.log(p)} for token, p in ((word, 0.8), (" else", 0.1))]


def _events(text: str) -> Iterator[bytes]:
    for word in text.split():
        yield b"data: " + orjson.dumps({"choices": [{"delta": {"content": word}}]}) + b"\n\n"
    yield b"data: [DONE]\n\n"


@contextmanager
def answering(server: AnsweringServer) -> Iterator[str]:
    """Its address."""
    with serve(server.app()) as (_, url):
        yield url
