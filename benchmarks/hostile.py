"""How long one request holds up everything else: the longest wait for /health/live while it is read and answered.

python -m benchmarks.hostile              every request of benchmarks/support/hostile_requests.py; a few minutes
python -m benchmarks.hostile --only ids   those with these letters in their names
"""

import argparse
import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from benchmarks.support import report
from benchmarks.support.hostile_requests import Hostile, hostile_requests
from benchmarks.support.processes import Running, black_box, deltaserve

GOAL_MS = 100.0
POLL_S = 0.002
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    megabytes: float
    status: int
    seconds: float
    longest_wait_ms: float
    grew_mb: float  # resident memory after it, above what it was before


class Watch:
    """Another process that asks for /health/live again and again."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def longest_ms(self) -> float:
        """The longest wait since the last call."""
        self._pipe.send(None)
        return float(self._pipe.recv())


@contextmanager
def watching(url: str) -> Iterator[Watch]:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_poll, args=(url, theirs), daemon=True)
    child.start()
    try:
        ours.recv()  # it has had its first answer
        yield Watch(ours)
    finally:
        child.terminate()
        child.join()


def _poll(url: str, pipe: Connection) -> None:
    connection, longest, first = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S), 0.0, True
    while True:
        begun = time.perf_counter()
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        longest = max(longest, time.perf_counter() - begun)
        if first or pipe.poll():
            if not first:
                pipe.recv()
            pipe.send(1000 * longest)
            longest, first = 0.0, False
        time.sleep(POLL_S)


def measure(served: Running, watch: Watch, hostile: Hostile) -> Outcome:
    before = served.resident_bytes()
    watch.longest_ms()
    begun = time.perf_counter()
    status = _send(served.url, hostile)
    seconds = time.perf_counter() - begun
    wait_ms = watch.longest_ms()
    grew = (served.resident_bytes() - before) / 1e6
    return Outcome(hostile.name, len(hostile.body) / 1e6, status, seconds, wait_ms, grew)


def _send(url: str, hostile: Hostile) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
    try:
        connection.request("POST", hostile.path, hostile.body, hostile.headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="letters that the names must hold")
    only = parser.parse_args().only
    with (
        black_box() as box,
        deltaserve(box.url, "--workers", "0", "--max-queue", "512") as served,
        watching(served.url) as watch,
    ):
        outcomes = [measure(served, watch, one) for one in hostile_requests() if only in one.name]
    rows = [[o.name, o.megabytes, o.status, o.seconds, o.longest_wait_ms, o.grew_mb] for o in outcomes]
    report.show("one request at a time", ["request", "MB", "status", "s", "longest wait, ms", "memory, MB"], rows)
    figures = {
        "hostile_longest_wait_ms": max(o.longest_wait_ms for o in outcomes),
        "hostile_defects": float(sum(o.status >= 500 for o in outcomes)),
    }
    report.show("figures", ["figure", "value"], figures.items())
    print(report.write("hostile", figures, {"only": only, "goal_ms": GOAL_MS}, [asdict(o) for o in outcomes]))


if __name__ == "__main__":
    main()
