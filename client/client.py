"""`Client` and `AsyncClient`: a deltaserve server's own routes, typed, and plain generation.

Errors are those of `deltaserve.client.errors`. A client talks to one server; its key goes nowhere else.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2 as httpx

from deltaserve.client import calls, wire
from deltaserve.client.address import DEFAULT_URL, Address, root_of
from deltaserve.client.calls import Call, Ending, Generation, Message
from deltaserve.client.results import Answer, Health, ModelCard, Piece, ScoredPrompt, TokenizerInfo, Tokens

T = TypeVar("T")
TIMEOUT_S = 600.0  # as long as a server may take over one answer by default


class Client:
    """Blocking. Close it, or use it as a context manager. Raises BadAddress."""

    def __init__(self, url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.address = Address(root_of(url), api_key)
        self._http = httpx.Client(**wire.options(self.address, timeout_s))

    @classmethod
    def at(cls, address: Address) -> Self:
        return cls(address.root, api_key=address.key)

    def health(self) -> Health:
        return self._run(calls.health())

    def version(self) -> str:
        return self._run(calls.version())

    def models(self) -> list[ModelCard]:
        return self._run(calls.models())

    def tokenize(
        self,
        prompt: str | Sequence[Message],
        model: str | None = None,
        add_special_tokens: bool | None = None,
        ending: Ending = "opened",
    ) -> Tokens:
        return self._run(calls.tokenize(prompt, model, add_special_tokens, ending))

    def detokenize(self, ids: Sequence[int], model: str | None = None) -> str:
        return self._run(calls.detokenize(ids, model))

    def tokenizer_info(self) -> TokenizerInfo:
        return self._run(calls.tokenizer_info())

    def score(self, prompts: Sequence[Sequence[int]], logprobs: int, model: str | None = None) -> list[ScoredPrompt]:
        """Of prompts given as ids: what each token's log-probability is (nats)."""
        return self._run(calls.score(prompts, logprobs, model))

    def complete(self, prompt: str | Sequence[int], how: Generation | None = None) -> Answer:
        return self._run(calls.completion(prompt, how or Generation()))

    def chat(self, messages: Sequence[Message], how: Generation | None = None, ending: Ending = "opened") -> Answer:
        return self._run(calls.chat(messages, how or Generation(), ending))

    def stream_complete(self, prompt: str, how: Generation | None = None) -> Iterator[Piece]:
        return self._stream(calls.completion(prompt, how or Generation()))

    def stream_chat(self, messages: Sequence[Message], how: Generation | None = None) -> Iterator[Piece]:
        return self._stream(calls.chat(messages, how or Generation()))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        with wire.reaching(self.address):
            response = self._http.request(**wire.request_of(call))
        return wire.result_of(call, response)

    def _stream(self, call: Call[Answer]) -> Iterator[Piece]:
        reader = wire.PieceReader()
        with wire.reaching(self.address), self._http.stream(**wire.request_of(calls.streamed(call))) as response:
            if response.status_code != 200:
                raise wire.failure(response.status_code, response.read(), response.headers)
            for chunk in response.iter_bytes():
                yield from reader.feed(chunk)
        reader.close()


class AsyncClient:
    """As Client, for one event loop. Close it, or use it as an async context manager. Raises BadAddress."""

    def __init__(self, url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.address = Address(root_of(url), api_key)
        self._http = httpx.AsyncClient(**wire.options(self.address, timeout_s))

    @classmethod
    def at(cls, address: Address) -> Self:
        return cls(address.root, api_key=address.key)

    async def health(self) -> Health:
        return await self._run(calls.health())

    async def version(self) -> str:
        return await self._run(calls.version())

    async def models(self) -> list[ModelCard]:
        return await self._run(calls.models())

    async def tokenize(
        self,
        prompt: str | Sequence[Message],
        model: str | None = None,
        add_special_tokens: bool | None = None,
        ending: Ending = "opened",
    ) -> Tokens:
        return await self._run(calls.tokenize(prompt, model, add_special_tokens, ending))

    async def detokenize(self, ids: Sequence[int], model: str | None = None) -> str:
        return await self._run(calls.detokenize(ids, model))

    async def tokenizer_info(self) -> TokenizerInfo:
        return await self._run(calls.tokenizer_info())

    async def score(
        self, prompts: Sequence[Sequence[int]], logprobs: int, model: str | None = None
    ) -> list[ScoredPrompt]:
        """Of prompts given as ids: what each token's log-probability is (nats)."""
        return await self._run(calls.score(prompts, logprobs, model))

    async def complete(self, prompt: str | Sequence[int], how: Generation | None = None) -> Answer:
        return await self._run(calls.completion(prompt, how or Generation()))

    async def chat(
        self, messages: Sequence[Message], how: Generation | None = None, ending: Ending = "opened"
    ) -> Answer:
        return await self._run(calls.chat(messages, how or Generation(), ending))

    def stream_complete(self, prompt: str, how: Generation | None = None) -> AsyncIterator[Piece]:
        return self._stream(calls.completion(prompt, how or Generation()))

    def stream_chat(self, messages: Sequence[Message], how: Generation | None = None) -> AsyncIterator[Piece]:
        return self._stream(calls.chat(messages, how or Generation()))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def send(self, call: Call[Any]) -> httpx.Response:
        """The response as it comes, whatever its status. Raises Unreachable and BadText."""
        with wire.reaching(self.address):
            return await self._http.request(**wire.request_of(call))

    async def _run(self, call: Call[T]) -> T:
        return wire.result_of(call, await self.send(call))

    async def _stream(self, call: Call[Answer]) -> AsyncIterator[Piece]:
        reader = wire.PieceReader()
        request = wire.request_of(calls.streamed(call))
        with wire.reaching(self.address):
            async with self._http.stream(**request) as response:
                if response.status_code != 200:
                    raise wire.failure(response.status_code, await response.aread(), response.headers)
                async for chunk in response.aiter_bytes():
                    for piece in reader.feed(chunk):
                        yield piece
        reader.close()
