"""deploy/proxy/haproxy.cfg as it is, in front of replicas on this machine; and what clients see through it."""

import asyncio
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

CONFIGURATION: Final = Path(__file__).parents[2] / "deploy" / "proxy" / "haproxy.cfg"
SESSION: Final = "X-Session-Id"
REPLICA: Final = "X-Replica"
_SERVER = re.compile(r"^    server deltaserve-(\d+) deltaserve-\d+:8000(.*)\n", re.MULTILINE)
_COMES_WITHIN_S = 20.0


@contextmanager
def proxy(replicas: Sequence[Running], folder: Path) -> Iterator[str]:
    """The address of a HAProxy in front of `replicas`. `folder` is for its configuration."""
    port, config = free_port(), folder / "haproxy.cfg"
    config.write_text(placed(CONFIGURATION.read_text("utf-8"), port, [replica.url for replica in replicas]), "utf-8")
    with running("haproxy", "haproxy", "-db", "-f", str(config), read="both") as child:
        url = f"http://{HOST}:{port}"
        _wait_ready(url, child)
        yield url


def placed(configuration: str, port: int, urls: Sequence[str]) -> str:
    """The same configuration, listening on loopback, with the servers at `urls` in place of its own.

    Raises ValueError if it is not written as it was.
    """
    lines = _SERVER.findall(configuration)
    if [number for number, _ in lines] != ["1", "2", "1", "2"] or "\n    bind :8080\n" not in configuration:
        raise ValueError(f"{CONFIGURATION} does not name two servers in two backends, and :8080")

    def servers(found: re.Match[str]) -> str:
        if found[1] != "1":
            return ""
        one = "    server deltaserve-{0} {1}" + found[2].replace("deltaserve-1", "deltaserve-{0}") + "\n"
        return "".join(one.format(number, url.removeprefix("http://")) for number, url in enumerate(urls, 1))

    return _SERVER.sub(servers, configuration).replace("bind :8080", f"bind {HOST}:{port}")


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
    raise RuntimeError(f"HAProxy does not pass requests on: {child.last_lines(3)}")
