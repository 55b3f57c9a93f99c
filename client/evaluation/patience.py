"""Calls made again while the server is busy or lost, and many at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

import stamina

from deltaserve.client.errors import Refused, ServerFailed, Unreachable

T = TypeVar("T")
ATTEMPTS: Final = 6
BUSY: Final = (429, 503)


async def patiently(call: Callable[[], Awaitable[T]], passing: Callable[[Exception], bool | float] | None = None) -> T:
    """The call's result; after an error that is `passing` (default: is_passing) it is called again, ATTEMPTS at most.

    Raises ClientError.
    """
    async for attempt in stamina.retry_context(on=passing or is_passing, attempts=ATTEMPTS, timeout=None):
        with attempt:
            return await call()
    raise RuntimeError("unreachable: the last attempt returns or raises")


def is_busy(error: Exception) -> bool | float:
    """Whether the server has too much to do now; a number of seconds where it says how long."""
    if isinstance(error, ServerFailed) and error.status in BUSY:
        return error.retry_after_s or True
    return isinstance(error, Refused) and error.status in BUSY


def is_passing(error: Exception) -> bool | float:
    """Whether it may be better later: the server is busy or cannot be reached."""
    return is_busy(error) or isinstance(error, Unreachable)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
