"""Work that ends in order when the command is told to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from deltaserve.client.console.terminal import Status, Stop

T = TypeVar("T")
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def until_stopped(work: Callable[[], Awaitable[T]]) -> T:
    """Runs to the end, or until SIGINT, SIGTERM or SIGHUP: then the work is cancelled and cleans up. Raises Stop.

    Later signals are not heeded: what is left to do is bounded in time.
    """
    return asyncio.run(_until_stopped(work))


async def _until_stopped(work: Callable[[], Awaitable[T]]) -> T:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    task = asyncio.ensure_future(work())
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        return await task
    await cancelled(task)
    raise Stop("Stopped.", Status.INTERRUPTED)


async def cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Waits until each has ended, whatever it ends with."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
