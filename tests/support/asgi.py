"""Requests given to an app as ASGI messages: what no HTTP client would send, and without a socket's time."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

Headers = Iterable[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """In OpenAI's shape or in Anthropic's."""
        told: dict[str, Any] = json.loads(self.body)
        found: dict[str, Any] = told["error"]
        assert set(found) == ({"message", "type"} if "request_id" in told else {"message", "type", "param", "code"})
        return found


class Asked:
    """An app that has started; `send` waits for the whole answer."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner) -> None:
        self._app = app
        self._runner = runner

    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        headers: Headers = (JSON,),
        query: bytes = b"",
    ) -> Answer:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"), "query_string": query, "headers": list(headers),
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "scheme": "http", "root_path": "", "state": {},
        }  # fmt: skip
        return self._runner.run(_exchange(self._app, scope, body))

    def post(self, path: str, **fields: Any) -> Answer:
        return self.send(path, json.dumps(fields).encode())


async def _exchange(app: FastAPI, scope: dict[str, Any], body: bytes) -> Answer:
    told, heard = [{"type": "http.request", "body": body, "more_body": False}], []

    async def receive() -> Any:
        return told.pop() if told else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        heard.append(message)

    await app(scope, receive, send)
    return Answer(heard[0]["status"], b"".join(message.get("body", b"") for message in heard[1:]))


@contextmanager
def asked(app: FastAPI) -> Iterator[Asked]:
    """The app between its start and its end, on an event loop of its own."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(app.router.lifespan_context(app)))
        try:
            yield Asked(app, runner)
        finally:
            runner.run(stack.aclose())
