"""What one app sends to collectors, for as long as it runs."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.observability.pushing import Pusher, push
from deltaserve.server.observability.spans import Tracer

_LAST_WITHIN_S: Final = 3.0  # of the end, for what has not been sent yet: a collector may be away


@dataclass(frozen=True, slots=True)
class Telling:
    """Traces, metrics, both or neither."""

    tracer: Tracer | None = None
    pusher: Pusher | None = None

    def open(self, stack: AsyncExitStack) -> None:
        """When `stack` ends, the last of both is sent."""
        stack.callback(closed, [sender.close for sender in (self.tracer, self.pusher) if sender is not None])

    def begin(self, counted: Callable[[], Awaitable[Metrics]]) -> list["asyncio.Task[Any]"]:
        """The task, if there is one, that sends metrics until it is cancelled."""
        if self.pusher is None:
            return []
        return [asyncio.create_task(push(self.pusher, counted))]


def closed(closing: Sequence[Callable[[], None]]) -> None:
    """Each sends its last, unless its collector is away for long. Blocking."""
    until = time.monotonic() + _LAST_WITHIN_S
    sending = [threading.Thread(target=close, daemon=True) for close in closing]
    for thread in sending:
        thread.start()
    for thread in sending:
        thread.join(max(0.0, until - time.monotonic()))
