"""A whole server as a process of its own, around the scripted black box: `python -m tests.support.scripted_server`."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from deltaserve.server.app import create_app, make_server, run_until_told
from deltaserve.server.serving.ports import Backends
from deltaserve.server.settings import load_settings
from tests.support.app import FlatVersion, OneVersion, ScriptedBlackBox, byte_tokenizer
from tests.support.process import Running, forked, free_port

READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class ScriptedServer:
    """A running one: its address, its process, and a client."""

    port: int
    process: Running
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metric(self, name: str) -> float:
        """A counter or gauge of /metrics, without the prefix; 0 where it has not been counted yet."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"deltaserve_{name} "))


@contextmanager
def scripted_server(box: ScriptedBlackBox | None = None, **settings: object) -> Iterator[ScriptedServer]:
    """It runs as `deltaserve serve` does, with `settings` by their own names; ended by its pid."""
    port, script = free_port(), box or ScriptedBlackBox()
    env = {name: value for name, value in os.environ.items() if not name.startswith("DELTASERVE_")}
    env |= {f"DELTASERVE_{name.upper()}": str(value) for name, value in {"port": port, **settings}.items()}
    pace = json.dumps({"delay_s": script.delay_s, "first_delay_s": script.first_delay_s, "max_context": None})
    with (
        forked("tests.support.scripted_server", pace, env=env) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        process.wait_until_ok(client, "/health/ready", READY_WITHIN_S)
        yield ScriptedServer(port, process, client)


def main() -> int:
    settings = load_settings()
    with tempfile.TemporaryDirectory() as folder:
        version = FlatVersion(byte_tokenizer(Path(folder)), max_context=100_000)
        box = ScriptedBlackBox(**json.loads(sys.argv[1]))
        app = create_app(settings, backends=Backends(box, OneVersion(version), "tiny"))
        return run_until_told(make_server(app, settings))


if __name__ == "__main__":
    sys.exit(main())
