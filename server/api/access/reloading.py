"""The file of keys, read at the start and anew whenever the process hears SIGHUP; a bad one changes nothing."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deltaserve.errors import NotConfigured
from deltaserve.server.api.access.auth import KeyRing
from deltaserve.server.serving.admission.keys_file import keys_of
from deltaserve.server.settings import Settings
from deltaserve.server.telemetry import Metrics


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
        try:
            holders = keys_of(self._settings)
        except NotConfigured as error:
            self._metrics.key_reloads.labels("kept").inc()
            self._log.error("the keys stay as they were", reason=error.message)
            return
        self._ring.hold(holders)
        self._metrics.key_reloads.labels("loaded").inc()
        self._log.info("keys loaded", keys=len(holders))

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hears SIGHUP. What was missed since the file was read is made up for."""
        if self._settings.keys_file is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # of a process that a supervisor has started
        self.reload()
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            ignore_hangups()


def ignore_hangups() -> None:
    """Before and after SIGHUP is heard: it would end the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
