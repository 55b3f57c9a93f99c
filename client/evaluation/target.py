"""A server under attack: the client with requests of any kind, which waits for a busy server and counts its calls."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self, TypeVar

import httpx2 as httpx

from deltaserve.client.address import Address
from deltaserve.client.calls import ENDINGS, Call, Generation, Message
from deltaserve.client.client import AsyncClient
from deltaserve.client.errors import Refused, ServerFailed, Unreachable
from deltaserve.client.evaluation.encoding import ServerEncoder
from deltaserve.client.evaluation.patience import BUSY, is_busy, patiently
from deltaserve.client.results import calls_of, reasoning_of, text_of

T = TypeVar("T")
AT_ONCE: Final = 8  # requests
TIMEOUT_S: Final = 300.0
LONGEST_WAIT_S: Final = 5.0  # for a busy server, whatever it says
MAX_TOKENS: Final = 48
FATAL: Final = (401, 429)  # refusals that say nothing about the request: no attack can go on
BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole body of a generated answer: all choices and their lists of alternatives."""

    body: Mapping[str, Any]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """Raises KeyError, IndexError or TypeError for a body that holds no text."""
        reply = cls(body)
        text_of(reply.choice)
        return reply

    @property
    def choice(self) -> Mapping[str, Any]:
        """The first one."""
        choice: Mapping[str, Any] = self.body["choices"][0]
        return choice

    @property
    def texts(self) -> list[str]:
        """One a choice: all that a client is shown of it, reasoning and the arguments of calls too."""
        return [_shown(choice) for choice in self.body["choices"]]

    @property
    def text(self) -> str:
        return self.texts[0]

    @property
    def content(self) -> str:
        """The first choice's own words, without what was thought before."""
        return text_of(self.choice)

    @property
    def tokens(self) -> list[Mapping[str, Any]]:
        """Of the first choice: each token with its log-probability and alternatives."""
        return list((self.choice.get("logprobs") or {}).get("content") or [])

    @property
    def alternatives(self) -> list[list[tuple[str, float]]]:
        """Of the first choice: at each position the likeliest tokens and their log-probabilities (nats), best first."""
        return [[(top["token"], top["logprob"]) for top in token["top_logprobs"]] for token in self.tokens]


def _shown(choice: Mapping[str, Any]) -> str:
    parts = [reasoning_of(choice), text_of(choice), *(call.arguments for call in calls_of(choice))]
    return "\n".join(filter(None, parts))


class _Busy(ServerFailed):
    """Carries the response, so that the last one can be looked at."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__("busy", response.status_code, retry_after_s=_wait_s(response))
        self.response = response


class Target(AsyncClient):
    """A running server and the model asked for. Its errors begin with `name`."""

    def __init__(self, name: str, address: Address) -> None:
        super().__init__(address.root, api_key=address.key, timeout_s=TIMEOUT_S)
        self.name = name
        self.model = ""
        self.fingerprint: str | None = None
        self.calls = 0
        self._places = asyncio.Semaphore(AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def connected(cls, name: str, address: Address) -> AsyncIterator[Self]:
        """Asks for the first model that the server lists. Raises Unreachable or ServerFailed."""
        async with cls(name, address) as target:
            cards = await target.models()
            if not cards:
                raise ServerFailed(f"{name}: the server lists no model.")
            target.model, target.fingerprint = cards[0].id, cards[0].fingerprint
            yield target

    @cached_property
    def encoder(self) -> ServerEncoder:
        """Chats and answers as the ids that the server makes of them."""
        return ServerEncoder(self, self.model)

    async def ask(self, messages: Sequence[Message], **params: Any) -> Reply:
        """A greedy answer unless `params` say otherwise. A last message of the assistant is continued."""
        ending = ENDINGS["begun" if messages[-1]["role"] == "assistant" else "opened"]
        return await self._generated(CHAT, {"messages": list(messages), **ending, **params})

    async def continue_text(self, prompt: str, **params: Any) -> Reply:
        """How a bare text goes on, greedily unless `params` say otherwise."""
        return await self._generated(COMPLETIONS, {"prompt": prompt, **params})

    async def text_ids(self, text: str) -> list[int]:
        """Ids of a bare text."""
        return [*(await self.tokenize(text, self.model, add_special_tokens=False)).ids]

    async def arrivals(self, messages: Sequence[Message], max_tokens: int) -> list[float]:
        """Seconds from the request to each piece of a streamed greedy answer."""
        how = Generation(self.model, max_tokens, temperature=0.0)
        began = time.perf_counter()
        try:
            return [time.perf_counter() - began async for piece in self.stream_chat(messages, how) if piece.text]
        except (Refused, ServerFailed) as error:
            raise ServerFailed(f"{self.name}: {error.message}", error.status) from error

    async def send(self, call: Call[Any]) -> httpx.Response:
        """As the client's; a busy server is asked again, ATTEMPTS times at most. Raises Unreachable."""
        try:
            return await patiently(lambda: self._unless_busy(call), is_busy)
        except _Busy as busy:
            return busy.response

    async def _unless_busy(self, call: Call[Any]) -> httpx.Response:
        async with self._places:
            self.calls += 1
            response = await self._sent(call)
        if response.status_code in BUSY:
            raise _Busy(response)
        return response

    async def _sent(self, call: Call[Any]) -> httpx.Response:
        """Once more where the connection broke: the server may have closed an idle one just as it was taken again."""
        try:
            try:
                return await super().send(call)
            except Unreachable as error:
                if not isinstance(error.__cause__, BROKEN):
                    raise
                return await super().send(call)
        except Unreachable as error:
            cause = type(error.__cause__).__name__
            raise Unreachable(f"{self.name}: the server does not answer ({cause}).") from error

    async def _run(self, call: Call[T]) -> T:
        """Raises Refused only for what is wrong with the request."""
        try:
            return await super()._run(call)
        except (Refused, ServerFailed) as error:
            if isinstance(error, Refused) and error.status not in FATAL:
                raise
            raise ServerFailed(f"{self.name}: {error.message}", error.status) from error

    async def _generated(self, path: str, body: Mapping[str, Any]) -> Reply:
        reply = await self._run(Call("POST", path, Reply.read, {"model": self.model, "temperature": 0, **body}))
        self.fingerprint = reply.body.get("system_fingerprint") or self.fingerprint
        return reply


def _wait_s(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("retry-after", "1")), LONGEST_WAIT_S)
    except ValueError:
        return 1.0  # a date
