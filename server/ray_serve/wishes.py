"""What Ray's `user_config` asks for: an offset, under a number that grows. The fleet activates it, or says why not."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deltaserve.errors import Conflict, DeltaserveError, NotConfigured
from deltaserve.offset_models.checkpoints.manifest import OffsetName
from deltaserve.offset_models.registry.audit import Actor
from deltaserve.server.fleet.offsets import FleetOffsets
from deltaserve.server.setting_sources import sentence

_AGAIN_S: Final = 1.0  # until a store that was away is asked again


class Wish(BaseModel):
    """`change` orders the wishes of a fleet: one that the fleet has seen, or a later one, is not made again."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    offset: OffsetName
    change: Annotated[int, Field(ge=1)]


def wish_of(user_config: Any) -> Wish:
    """Raises NotConfigured."""
    try:
        return Wish.model_validate(user_config)
    except ValidationError as error:
        faults = "; ".join(sentence(one) for one in error.errors(include_input=False, include_url=False))
        raise NotConfigured(
            f"user_config must be an offset and the number of the change, as in {{offset: NAME, change: 2}}: {faults}."
        ) from None


class Wishes:
    """Of one replica. Ray repeats a wish to every replica, also to one that starts much later; one of them fulfils it.

    Nothing here waits in Ray's place: `reconfigure` would hold up one replica after the other.
    """

    def __init__(self, offsets: FleetOffsets, log: Any) -> None:
        self._offsets = offsets
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def take(self, wish: Wish) -> None:
        """In the place of the one before."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._fulfil(wish))

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def fulfilled(self) -> None:
        """Until the last wish was made, or given up."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _fulfil(self, wish: Wish) -> None:
        actor = Actor("ray", f"user_config-{wish.change}")
        told = ""
        while True:
            try:
                made = await self._offsets.ask(wish.offset, wish.change, actor=actor)
            except DeltaserveError as error:
                if not error.retryable or isinstance(error, Conflict):
                    self._log.error("user_config not followed", **wish.model_dump(), reason=error.message)
                    return
                if error.message != told:
                    self._log.warning("user_config waits", **wish.model_dump(), reason=error.message)
                told = error.message
                await asyncio.sleep(_AGAIN_S)
            else:
                event = "user_config followed" if made else "user_config was followed before"
                self._log.info(event, **wish.model_dump())
                return
