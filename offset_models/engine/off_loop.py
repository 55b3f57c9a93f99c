"""Runs blocking work in a thread and reports its end to the event loop in as few turns as possible.

A turn of a busy loop takes milliseconds; `asyncio.to_thread` in a shielded task needs five of them, this needs two.
"""

import asyncio
from collections.abc import Callable


def in_thread(work: Callable[[], None], then: Callable[[BaseException | None], None]) -> None:
    """Run `work` in a thread, then `then` on the loop with what it raised, also when the caller has gone."""
    loop = asyncio.get_running_loop()

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001  (passed on, whatever it is)
            error = raised
        loop.call_soon_threadsafe(then, error)

    loop.run_in_executor(None, run)


def tell(waiting: "asyncio.Future[None]", error: BaseException | None) -> None:
    """End the wait, unless it was cancelled."""
    if waiting.done():
        return
    if error is None:
        waiting.set_result(None)
    else:
        waiting.set_exception(error)
