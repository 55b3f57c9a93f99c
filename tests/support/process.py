"""A server process that a test starts and ends, by its pid; what it prints is kept for when it fails."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2 as httpx

from deltaserve.offset_models.demo.process import Child, environment_without_settings, free_port
from tests.support.nursery import nursery

__all__ = ["Running", "environment_without_settings", "forked", "free_port", "running"]
ENDED_WITHIN_S = 15.0


class Running(Child):
    """A process that can be waited for."""

    def wait_until_ok(self, client: httpx.Client, path: str, within_s: float) -> None:
        """Until `path` answers 200; fails with what the process printed."""
        end = time.monotonic() + within_s
        while time.monotonic() < end and self.exit_status is None:
            try:
                if client.get(path).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server did not become ready:\n" + "".join(self.lines))


@contextmanager
def running(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Starts the command; terminates it at the end, and kills it when it does not listen."""
    with ended(Running.start(command[0], *command, env=env)) as process:
        yield process


@contextmanager
def forked(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """The same for `python -m module arguments`, by way of the nursery."""
    with ended(Running(module, nursery().read(module, *arguments, env=env))) as process:
        yield process


@contextmanager
def ended(process: Running) -> Iterator[Running]:
    """At the end of the context, one way or the other."""
    try:
        yield process
    finally:
        process.stop(ENDED_WITHIN_S)
