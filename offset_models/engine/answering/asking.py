"""What a stream's corrector asks the engine's thread, and how the answers go back to its event loop."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from deltaserve.offset_models.engine.streams import EngineStream
from deltaserve.server.decoding.deciding.corrector import AnswerSpec
from deltaserve.server.decoding.protocols import Proposal


@dataclass(slots=True, eq=False)  # not frozen: made for every token, and that takes a third of the time
class Reply:
    """Where an answer goes."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class Begin:
    """From now on the engine decides the stream's tokens."""

    stream: EngineStream
    spec: AnswerSpec


@dataclass(slots=True, eq=False)
class Ask:
    """`Corrector.decide`."""

    stream: EngineStream
    run: Sequence[Proposal]
    draft_temperature: float | None
    observed: bool
    reply: Reply


@dataclass(frozen=True, slots=True)
class Force:
    """`Corrector.forced`."""

    stream: EngineStream
    reply: Reply


@dataclass(frozen=True, slots=True)
class Guess:
    """`Corrector.expected`."""

    stream: EngineStream
    reply: Reply


@dataclass(frozen=True, slots=True)
class Lift:
    """`Corrector.lifted`."""

    stream: EngineStream
    reply: Reply


@dataclass(frozen=True, slots=True)
class DraftBlock:
    """`Corrector.draft`."""

    stream: EngineStream
    length: int
    reply: Reply


Look = Guess | Lift  # at the row of the next position, without a list
Request = Begin | Ask | Force | Look | DraftBlock
Answered = tuple[Reply, Any]  # a result, or the exception that there is instead


def send(answers: Sequence[Answered]) -> None:
    """One wake-up per event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Answered]] = {}
    for answer in answers:
        loops.setdefault(answer[0].loop, []).append(answer)
    for loop, theirs in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits there
            loop.call_soon_threadsafe(settle, theirs)


def settle(answers: Sequence[Answered]) -> None:
    """On the loop of all of them."""
    for reply, result in answers:
        if reply.future.done():
            continue
        if isinstance(result, BaseException):
            reply.future.set_exception(result)
            reply.future.exception()  # read here: a waiter that was cancelled meanwhile is not to be warned about
        else:
            reply.future.set_result(result)
