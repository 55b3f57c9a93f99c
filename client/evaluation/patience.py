"""Calls made again while the server is busy or lost."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

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
