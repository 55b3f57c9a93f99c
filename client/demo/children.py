"""Processes that the demo starts: watched, and stopped by their ids however the demo ends."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import httpx2 as httpx

from deltaserve.client.console.terminal import Status, Stop
from deltaserve.server.addresses import bound, close
from deltaserve.server.settings import PREFIX

T = TypeVar("T")
LAST_LINES: Final = 12
LAST_BYTES: Final = 4096
STOPPED_WITHIN_S: Final = 5.0
POLL_S: Final = 0.1
PR_SET_PDEATHSIG: Final = 1  # of Linux's prctl
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Child:
    """One process of ours. Its stderr is read as it comes; the last lines are kept for when it dies."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self.said = b""
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> Stop:
        """Waits for its end, which nobody asked for."""
        status = await self._process.wait()
        await asyncio.wait((self._reader,), timeout=1.0)
        said = "\n".join(self.said.decode(errors="replace").splitlines()[-LAST_LINES:])
        return Stop(f"The {self.name} ended (exit status {status})." + (f" Its last words:\n{said}" if said else ""))

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to one that does not heed it."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOPPED_WITHIN_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._reader.cancel()

    async def _read(self) -> None:
        if self._process.stderr is not None:
            while chunk := await self._process.stderr.read(1 << 16):
                self.said = (self.said + chunk)[-LAST_BYTES:]


@asynccontextmanager
async def running(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Child]:
    """`python ARGUMENTS`, stopped at the end. Of our own settings it sees only those in `environment`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        preexec_fn=_ends_with_us() if sys.platform == "linux" else None,
        env={**_without_settings(), **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C at the terminal reaches the demo alone, which stops its children in order
    )
    child = Child(name, process)
    try:
        yield child
    finally:
        await child.stop()


def _ends_with_us() -> Callable[[], None]:
    """For a child before it runs: SIGTERM when this process is gone, even by SIGKILL."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()  # looked up here: after the fork as little as can be

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone already
            os._exit(1)

    return ask


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
    ends = [asyncio.create_task(child.ended()) for child in children]
    try:
        await asyncio.wait((task, *ends), return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            if end.done() and not task.done():
                raise end.result()
        return await task
    finally:
        await _cancelled(task, *ends)


async def _healthy(url: str, problems: list[str]) -> None:
    """Until it is. `problems` is kept at what the last answer says is missing."""
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        while True:
            with suppress(httpx.TransportError):
                answer = await client.get(f"{url}/health")
                if answer.status_code == 200:
                    return
                problems[:] = answer.json().get("problems", ()) if answer.status_code == 503 else ()
            await asyncio.sleep(POLL_S)


def refuse_busy(host: str, port: int, what: str, option: str) -> None:
    """Raises AddressUnusable when `port` is taken, or not ours to take."""
    close(bound(host, port, what, option))


def free_port(host: str) -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def until_told(work: Callable[[], Awaitable[T]]) -> T:
    """Runs to the end, or until SIGINT, SIGTERM or SIGHUP: then what was begun is put away. Raises Stop.

    Later signals are not heeded: what is left to do is bounded in time.
    """
    return asyncio.run(_until_told(work))


async def _until_told(work: Callable[[], Awaitable[T]]) -> T:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, told.set)
    task = asyncio.ensure_future(work())
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        return await task
    await _cancelled(task)
    raise Stop("Stopped.", Status.INTERRUPTED)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
