"""Redis as a process of its own, kept nowhere: what it knows is lost when it ends."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field

from deltaserve.offset_models.demo.process import HOST, free_port

_COMES_WITHIN_S = 10.0


@dataclass
class RedisServer:
    port: int = field(default_factory=free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Empty. Returns when it answers."""
        options = ("--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        import redis

        until = time.monotonic() + _COMES_WITHIN_S
        with redis.Redis(host=HOST, port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
