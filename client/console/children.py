"""Processes that a command starts: watched, and stopped by their ids however the command ends."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import httpx2 as httpx

from deltaserve.client.console.interrupts import cancelled
from deltaserve.client.console.terminal import Stop, note
from deltaserve.offset_models.demo.process import Child, environment_without_settings
from deltaserve.server.addresses import bound, close

T = TypeVar("T")
LAST_LINES: Final = 12
STOPPED_WITHIN_S: Final = 5.0
POLL_S: Final = 0.1
NOTE_EVERY_S: Final = 4.0


@asynccontextmanager
async def running(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Child]:
    """`python ARGUMENTS`, stopped at the end. Of our own settings it sees only those in `environment`."""
    env = {**environment_without_settings(), **(environment or {})}
    child = Child.start(name, sys.executable, *arguments, env=env, read="stderr", tied=True)
    try:
        yield child
    finally:
        await asyncio.to_thread(child.stop, STOPPED_WITHIN_S)


async def ended(child: Child) -> Stop:
    """Waits until the process ends by itself; gives the error that says so."""
    while (status := child.exit_status) is None:  # noqa: ASYNC110  (a process has no event to wait for)
        await asyncio.sleep(POLL_S)
    words = child.last_lines(LAST_LINES)
    return Stop(f"The {child.name} ended (exit status {status})." + (f" Its last words:\n{words}" if words else ""))


async def until_ready(child: Child, url: str, within_s: float) -> None:
    """Waits until `url` answers that it is ready. Raises Stop when the child dies or takes too long."""
    problems: list[str] = []
    try:
        async with asyncio.timeout(within_s):
            await unless_ended(_healthy(url, problems), child)
    except TimeoutError:
        reason = f": {'; '.join(problems)}" if problems else "."
        raise Stop(f"The {child.name} was not ready within {within_s:.0f} s{reason}") from None


async def unless_ended(work: Awaitable[T], *children: Child) -> T:
    """The result of `work`. Raises Stop as soon as one of the children dies."""
    task = asyncio.ensure_future(work)
    ends = [asyncio.create_task(ended(child)) for child in children]
    try:
        await asyncio.wait((task, *ends), return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            if end.done() and not task.done():
                raise end.result()
        return await task
    finally:
        await cancelled(task, *ends)


@asynccontextmanager
async def never_silent(line: Callable[[float], str], every_s: float = NOTE_EVERY_S) -> AsyncIterator[None]:
    """Notes `line(seconds)` every `every_s` seconds, until the block ends."""

    async def tell() -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(every_s)
            note(line(time.monotonic() - began))

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        await cancelled(task)


async def _healthy(url: str, problems: list[str]) -> None:
    """Waits until GET /health answers 200. `problems` holds what the last answer says is missing."""
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        while True:
            with suppress(httpx.TransportError):
                answer = await client.get(f"{url}/health")
                if answer.status_code == 200:
                    return
                problems[:] = answer.json().get("problems", ()) if answer.status_code == 503 else ()
            await asyncio.sleep(POLL_S)


def refuse_busy(host: str, port: int, what: str, option: str) -> None:
    """Raises AddressUnusable when `port` is taken, or may not be used."""
    close(bound(host, port, what, option))
