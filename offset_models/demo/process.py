"""The black box as a process of its own, for as long as somebody needs it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deltaserve.errors import UpstreamUnreachable

READY_WITHIN_S = 300.0  # importing torch alone takes long on a busy machine
STOPPED_WITHIN_S = 10.0


@asynccontextmanager
async def serving(model: Path, *options: str) -> AsyncIterator[str]:
    """Serve a model folder on a free loopback port; gives the URL that ends in /v1. Raises UpstreamUnreachable."""
    command = ("-m", "deltaserve.offset_models.demo.blackbox", "--model", str(model), "--port", "0", *options)
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        yield await _ready_url(process) + "/v1"
    finally:
        await _stop(process)


async def _ready_url(process: asyncio.subprocess.Process) -> str:
    """The address in the line that the process prints once it answers requests."""
    if process.stdout is None:
        raise ValueError("The process was started without a pipe.")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), READY_WITHIN_S)
    except TimeoutError:
        raise UpstreamUnreachable(f"The embedded black box was not ready within {READY_WITHIN_S:.0f} s.") from None
    said, _, url = line.decode().strip().partition(" ")
    if said != "ready":
        raise UpstreamUnreachable("The embedded black box ended before it was ready; its own words are on stderr.")
    return url


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOPPED_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
