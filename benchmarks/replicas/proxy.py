"""deploy/proxy/Caddyfile as it is, in front of replicas on this machine; and what clients see through it."""

import asyncio
import os
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2 as httpx

from benchmarks.support.processes import Running
from deltaserve.offset_models.demo.process import HOST, Child, free_port, running

CADDYFILE: Final = Path(__file__).parents[2] / "deploy" / "proxy" / "Caddyfile"
SESSION: Final = "X-Session-Id"
REPLICA: Final = "X-Replica"
_COMES_WITHIN_S = 20.0


@contextmanager
def proxy(replicas: Sequence[Running], folder: Path) -> Iterator[str]:
    """The address of a Caddy in front of `replicas`. `folder` is for its configuration."""
    port, config = free_port(), folder / "Caddyfile"
    config.write_text(placed(CADDYFILE.read_text("utf-8"), port, [replica.url for replica in replicas]), "utf-8")
    env = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = ("caddy", "run", "--adapter", "caddyfile", "--config", str(config))
    with running("caddy", *command, env=env, read="both") as child:
        url = f"http://{HOST}:{port}"
        _wait_ready(url, child)
        yield url


def placed(caddyfile: str, port: int, urls: Sequence[str]) -> str:
    """The same configuration for other addresses. Raises ValueError if it does not name them where it did."""
    hosts = " ".join(url.removeprefix("http://") for url in urls)
    for pattern, text in ((r"(?m)^\tto .+$", f"\tto {hosts}"), (r"(?m)^:8080 \{$", f"http://{HOST}:{port} {{")):
        caddyfile, count = re.subn(pattern, text, caddyfile)
        if count != 1:
            raise ValueError(f"{CADDYFILE} has no single line {pattern}")
    return caddyfile


async def moved(url: str, sessions: int, requests: int) -> int:
    """Sessions that were not answered by one replica alone."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        asked = [
            [client.get("/v1/models", headers={SESSION: f"session-{number}"}) for _ in range(requests)]
            for number in range(sessions)
        ]
        answers = [[response.headers[REPLICA] for response in await asyncio.gather(*each)] for each in asked]
    return sum(len(set(each)) != 1 for each in answers)


async def unanswered(url: str, body: Mapping[str, object], sessions: int) -> int:
    """Equal requests, each of a session of its own, that got no answer."""

    async def ask(number: int) -> bool:
        try:
            answer = await client.post("/v1/completions", json=body, headers={SESSION: f"session-{number}"})
        except httpx.HTTPError:
            return False
        return answer.is_success

    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as client:
        return sum(not answered for answered in await asyncio.gather(*map(ask, range(sessions))))


def _wait_ready(url: str, child: Child) -> None:
    until = time.monotonic() + _COMES_WITHIN_S
    while time.monotonic() < until and child.exit_status is None:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"Caddy does not pass requests on: {child.last_lines(3)}")
