"""One server as a stranger meets it: OpenAI's routes over HTTP, nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx2 as httpx
import orjson

from deltaserve.errors import UpstreamRefused, UpstreamUnreachable
from deltaserve.server.upstream.http.events import EventSplitter

Message = Mapping[str, str]  # role, content
AT_ONCE: Final = 8
PATIENCE: Final = 6  # times a busy server is asked again
IDLE_S: Final = 2.0  # servers close connections that idle for longer; uvicorn after 5 s
BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
MAX_EVENT_BYTES: Final = 1 << 20
CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"


class Blocked(Exception):
    """The server refused the request: the attack does not work this way. `reason` is its own sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Said:
    """The answer to a generation request."""

    body: Mapping[str, Any]

    @property
    def texts(self) -> list[str]:
        """One a choice."""
        return [_text(choice) for choice in self.body["choices"]]

    @property
    def text(self) -> str:
        return self.texts[0]

    @property
    def listed(self) -> list[list[tuple[str, float]]]:
        """Of the first choice: at each position the likeliest tokens and their log-probabilities, best first."""
        content = ((self.body["choices"][0].get("logprobs") or {}).get("content")) or []
        return [[(top["token"], top["logprob"]) for top in place["top_logprobs"]] for place in content]


@dataclass
class Side:
    """A running server and the model asked for."""

    name: str
    client: httpx.AsyncClient
    model: str = ""
    fingerprint: str | None = None
    calls: int = 0
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @classmethod
    @asynccontextmanager
    async def reached(
        cls, name: str, url: str, key: str | None = None, timeout_s: float = 300.0
    ) -> AsyncIterator[Self]:
        """Raises UpstreamUnreachable or UpstreamRefused."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=timeout_s,
            limits=httpx.Limits(keepalive_expiry=IDLE_S),
            trust_env=not _local(url),
        ) as client:
            side = cls(name, client)
            cards = await side._json("GET", "/v1/models")
            side.model = cards["data"][0]["id"]
            yield side

    async def chat(self, messages: Sequence[Message], **params: Any) -> Said:
        """A greedy answer unless `params` say otherwise. A last message of the assistant is continued."""
        return await self._said(CHAT, {**_chat(messages), **params})

    async def complete(self, prompt: str | Sequence[int], **params: Any) -> Said:
        return await self._said(COMPLETIONS, {"prompt": prompt, **params})

    async def ids(self, messages: Sequence[Message]) -> list[int]:
        """A chat as `chat` has it answered, as token ids: a last message of the assistant is continued."""
        found = await self._json("POST", "/tokenize", {"model": self.model, **_chat(messages)})
        return [int(token) for token in found["tokens"]]

    async def text_ids(self, text: str) -> list[int]:
        """Ids of a bare text."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return [int(token) for token in (await self._json("POST", "/tokenize", body))["tokens"]]

    async def arrivals(self, messages: Sequence[Message], max_tokens: int) -> list[float]:
        """Seconds from the request to each piece of a streamed greedy answer."""
        asked = {"model": self.model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens}
        splitter, times = EventSplitter(MAX_EVENT_BYTES), list[float]()
        began = time.perf_counter()
        async with self.client.stream("POST", CHAT, json={**asked, "stream": True}) as answer:
            if answer.status_code != 200:
                raise UpstreamRefused(f"{self.name}: a streamed answer was refused (HTTP {answer.status_code}).")
            async for chunk in answer.aiter_bytes():
                pieces = [event for event in splitter.feed(chunk) if _carries_text(event)]
                times += [time.perf_counter() - began] * len(pieces)
        return times

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """Whatever comes back; a busy server is asked again. Raises UpstreamUnreachable."""
        for turn in range(PATIENCE):
            try:
                async with self._places:
                    response = await self._asked(method, path, json=body, **more)
            except httpx.TransportError as error:
                raise UpstreamUnreachable(
                    f"{self.name}: the server does not answer ({type(error).__name__})."
                ) from error
            if response.status_code not in (429, 503) or turn == PATIENCE - 1:
                return response
            await asyncio.sleep(_pause(response))
        raise AssertionError("the last turn returns")

    async def _asked(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Once more where the connection broke: the server may have closed an idle one just as it was taken again."""
        self.calls += 1
        try:
            return await self.client.request(method, path, **more)
        except BROKEN:
            return await self.client.request(method, path, **more)

    async def _said(self, path: str, body: Mapping[str, Any]) -> Said:
        said = Said(await self._json("POST", path, {"model": self.model, "temperature": 0, **body}))
        self.fingerprint = said.body.get("system_fingerprint") or self.fingerprint
        return said

    async def _json(self, method: str, path: str, body: Any = None) -> Any:
        response = await self.ask(method, path, body)
        if response.status_code >= 500 or response.status_code in (401, 429):
            raise UpstreamRefused(f"{self.name}: {_reason(response)}")
        if response.status_code != 200:
            raise Blocked(response.status_code, _reason(response))
        return orjson.loads(response.content)


def _chat(messages: Sequence[Message]) -> dict[str, Any]:
    begun = messages[-1]["role"] == "assistant"
    more = {"continue_final_message": True, "add_generation_prompt": False} if begun else {}
    return {"messages": list(messages), **more}


def _local(url: str) -> bool:
    """No proxy stands before this machine."""
    return httpx.URL(url).host in ("127.0.0.1", "::1", "localhost")


def _text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    return str((choice.get("text") if message is None else message.get("content")) or "")


def _carries_text(event: bytes) -> bool:
    if event == b"[DONE]":
        return False
    choices = orjson.loads(event).get("choices") or [{}]
    return bool((choices[0].get("delta") or {}).get("content"))


def _reason(response: httpx.Response) -> str:
    """The server's own sentence, or the status."""
    try:
        error = orjson.loads(response.content)["error"]
        return str(error if isinstance(error, str) else error["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"


def _pause(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("retry-after", "1")), 5.0)
    except ValueError:
        return 1.0
