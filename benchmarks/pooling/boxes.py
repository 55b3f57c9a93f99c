"""Black boxes that are killed and are back within a second or two: forked from a process that has torch already."""

import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from deltaserve.offset_models.demo.blackbox import Options, run
from deltaserve.offset_models.demo.process import HOST, free_port

_UP_WITHIN_S: Final = 60.0
_PRELOADED: Final = ["deltaserve.offset_models.demo.blackbox.http.server"]


class Box:
    """One of them, always at the same port."""

    def __init__(self, model: Path, pace_ms: float, first_ms: float) -> None:
        self.port = free_port()
        self.kills = 0
        self._options = Options(model=model, port=self.port, ms_per_token=pace_ms, first_token_ms=first_ms)
        self._process: BaseProcess | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=0.2):
            return True
        return False

    def start(self) -> None:
        """Returns at once."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._process = context.Process(target=_serve, args=(self._options,), daemon=True)
        self._process.start()

    def wait(self) -> None:
        """Until it listens. Raises TimeoutError."""
        until = time.monotonic() + _UP_WITHIN_S
        while not self.listens:
            if time.monotonic() > until:
                raise TimeoutError("a black box did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """By SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.kills += 1

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join(10)


@contextmanager
def boxes(model: Path, count: int, *, pace_ms: float = 20.0, first_ms: float = 40.0) -> Iterator[Sequence[Box]]:
    """So many, all listening."""
    made = [Box(model, pace_ms, first_ms) for _ in range(count)]
    try:
        for box in made:
            box.start()
        for box in made:
            box.wait()
        yield made
    finally:
        for box in made:
            box.stop()


def _serve(options: Options) -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (its address is known)
    run(options)
