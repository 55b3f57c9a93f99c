"""The server under the drill: real processes, the admin key known, its memory and its death in our hands."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.support.processes import Running, deltaserve
from benchmarks.swap.site import NAMES, Site

ADMIN_KEY: Final = "drill-admin-key"
SERVED: Final = "drilled"
STREAMS: Final = 20  # places: the sixteen clients, and those who look


@contextmanager
def server(site: Site, upstream: str, state: Path, **more: object) -> Iterator[Running]:
    """With the first checkpoint active, unless `state` knows better. `more`: other settings, by their own names."""
    options = {
        "offsets-root": site.root,
        "offset": NAMES[0],
        "state-folder": state,
        "admin-key": ADMIN_KEY,
        "admin-requests-per-minute": 100_000,
        "served-name": SERVED,
        "max-streams": STREAMS,
        "torch-threads": 1,
        "workers": 0,
        "drain-timeout-s": 1,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    with deltaserve(upstream, *(f"--{name}={value}" for name, value in options.items())) as running:
        yield running


def kill(running: Running) -> None:
    """As a crash would: no signal handler runs."""
    os.kill(running.pid, signal.SIGKILL)
