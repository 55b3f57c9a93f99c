"""The file of keys, read at the start and anew whenever the process hears SIGHUP; a bad one changes nothing."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deltaserve.errors import DeltaserveError, NotConfigured
from deltaserve.server.api.access.auth import KeyRing
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.serving.admission.keys_file import Holders, keys_of
from deltaserve.server.settings import Settings


def key_ring(settings: Settings) -> KeyRing | None:
    """Every key of the settings and of the file; None where anybody may ask. Raises NotConfigured."""
    if not settings.needs_key:
        return None
    # The admin key is a key to ask with, too: `explain` takes it as the bearer's.
    plain = (*settings.api_keys, *filter(None, [settings.admin_key]))
    ring = KeyRing(key.get_secret_value() for key in plain)
    if settings.keys_file is not None:
        ring.hold(keys_of(settings))
    return ring


class KeysFile:
    """What SIGHUP does."""

    def __init__(self, settings: Settings, ring: KeyRing, metrics: Metrics, log: Any) -> None:
        self._settings = settings
        self._ring = ring
        self._metrics = metrics
        self._log = log

    def reload(self) -> None:
        """Answers that run go on. The log says what came of it, without keys and digests."""
        self._take(self._read())

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hears SIGHUP. What was missed since the file was read is made up for."""
        if self._settings.keys_file is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, hung_up = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, hung_up.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # of a process that a supervisor has started
        self.reload()
        task = loop.create_task(self._whenever(hung_up))
        try:
            yield
        finally:
            task.cancel()
            loop.remove_signal_handler(signal.SIGHUP)
            ignore_hangups()

    async def _whenever(self, hung_up: asyncio.Event) -> None:
        """Beside the answers that run: a thousand keys take half a second to read."""
        while True:
            await hung_up.wait()
            hung_up.clear()
            self._take(await asyncio.to_thread(self._read))

    def _read(self) -> Holders | DeltaserveError:
        try:
            return keys_of(self._settings)
        except DeltaserveError as error:
            return error
        except Exception as error:  # noqa: BLE001  (a defect: the next SIGHUP is to be heard all the same)
            return NotConfigured(f"{self._settings.keys_file} cannot be read ({type(error).__name__}).")

    def _take(self, read: Holders | DeltaserveError) -> None:
        if isinstance(read, DeltaserveError):
            self._metrics.key_reloads.labels("kept").inc()
            self._log.error("the keys stay as they were", reason=read.message)
            return
        self._ring.hold(read)
        self._metrics.key_reloads.labels("loaded").inc()
        self._log.info("keys loaded", keys=len(read))


def ignore_hangups() -> None:
    """Before and after SIGHUP is heard: it would end the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
