"""`deltaserve forget --about NAME` as an operator runs it, with what it took."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deltaserve.offset_models.demo.process import ends_with_us

TIMES = "took.json"
ANNOUNCED = re.compile(r"([\d,]+) calls to ")  # of `forget`, before it asks for the lists along its rows


@dataclass(frozen=True, slots=True)
class Request:
    """One erasure request, by a name alone."""

    name: str  # of the offset
    about: str
    upstream: str
    base: Path
    out: Path
    minutes: float
    calls: int
    more: Sequence[str] = ()  # other options, as they are

    @property
    def checkpoint(self) -> Path:
        return self.out / self.name

    def command(self) -> list[str]:
        options = {
            "--name": self.name,
            "--about": self.about,
            "--upstream": self.upstream,
            "--base": self.base,
            "--out": self.out,
            "--minutes": f"{self.minutes:g}",
            "--calls": self.calls,
        }
        given = [str(part) for pair in options.items() for part in pair]
        return [sys.executable, "-m", "deltaserve", "forget", *given, "--json", *self.more]


def made(request: Request) -> dict[str, Any]:
    """Runs the command unless its checkpoint is there; gives minutes of all tries, and calls before training."""
    request.out.mkdir(parents=True, exist_ok=True)
    place = request.out / f"{request.name}-{TIMES}"
    took: dict[str, Any] = orjson.loads(place.read_bytes()) if place.exists() else {"minutes": 0.0, "collected": 0}
    if request.checkpoint.is_dir():
        return took
    began = time.monotonic()
    try:
        status = _run(request.command(), took)
    finally:
        took["minutes"] += (time.monotonic() - began) / 60
        took["calls"] = took["collected"] + asked(request.out / ".work" / request.name)
        place.write_bytes(orjson.dumps(took))
    if status:
        raise SystemExit(f"deltaserve forget ended with status {status}; run this again to go on.")
    return took


def asked(work: Path) -> int:
    """Calls that found out what the black box knows; none for rows that somebody wrote."""
    record = work / "rows" / "request.json"
    return int(orjson.loads(record.read_bytes())["calls"]) if record.exists() else 0


def _run(command: Sequence[str], took: dict[str, Any]) -> int:
    """The exit status. What the command says passes through; calls that it announces for its rows are added up."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=ends_with_us()
    ) as process:
        for line in process.stderr or ():
            sys.stderr.write(line)
            if announced := ANNOUNCED.match(line):
                took["collected"] += int(announced[1].replace(",", ""))
    return process.returncode
