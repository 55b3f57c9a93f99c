"""A start that fails ends in a sentence, in the log and on the app's state; a defect keeps its traceback."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.types import Message

from deltaserve.errors import BadCheckpoint
from deltaserve.server.app import Build, create_app
from deltaserve.server.serving.ports import Registry
from deltaserve.server.settings import Settings


async def failed_start(error: Exception) -> tuple[Any, str]:
    """The app, and what it tells whoever started it."""

    async def registry(_settings: Settings, _stack: AsyncExitStack) -> Registry:
        raise error

    app = create_app(Settings(), build=Build(registry))
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        told.append(message)

    with pytest.raises(type(error)):
        await app({"type": "lifespan", "state": {}}, receive, send)
    (failed,) = told
    assert failed["type"] == "lifespan.startup.failed"
    return app, failed["message"]


class Log:
    """Keeps the lines of one level."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, dict[str, Any]]] = []

    def error(self, event: str, **about: Any) -> None:
        self.errors.append((event, about))

    def warning(self, *_: object, **__: object) -> None: ...


def test_a_known_error_is_one_sentence_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    error, log = BadCheckpoint("The base is quantised."), Log()
    monkeypatch.setattr("deltaserve.server.app.logger", lambda: log)
    app, message = asyncio.run(failed_start(error))
    assert message == "" and app.state.start_error is error
    assert log.errors == [("cannot start", {"reason": "The base is quantised."})]


def test_a_defect_keeps_its_traceback() -> None:
    app, message = asyncio.run(failed_start(RuntimeError("a defect")))
    assert "Traceback" in message and app.state.start_error is None
