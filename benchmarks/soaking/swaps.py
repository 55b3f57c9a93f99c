"""Another version becomes active again and again, and the one that nobody needs is unloaded and loaded."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from benchmarks.swap.site import NAMES
from deltaserve.client.admin import AsyncAdminClient

_RELOAD_EVERY: Final = 3  # swaps
_GO_BACK_EVERY: Final = 7


@dataclass(slots=True)
class Swaps:
    """Begins with the first name active; goes on until told to stop."""

    admin: AsyncAdminClient
    every_s: float
    done: int = 0
    reloads: int = 0
    _task: "asyncio.Task[None]" = field(init=False)

    async def __aenter__(self) -> "Swaps":
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Raises what ended them early."""
        self._task.cancel()
        (error,) = await asyncio.gather(self._task, return_exceptions=True)
        if not isinstance(error, asyncio.CancelledError) and isinstance(error, BaseException):
            raise error

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self.every_s)
            number = self.done + 1
            back = number % _GO_BACK_EVERY == 0
            swapped = await (self.admin.rollback() if back else self.admin.activate(NAMES[number % len(NAMES)]))
            self.done = number
            if number % _RELOAD_EVERY == 0:
                spare = next(name for name in NAMES if name not in (swapped.active.name, swapped.previous))
                await self.admin.unload(spare)
                await self.admin.load(spare, spare)
                self.reloads += 1
