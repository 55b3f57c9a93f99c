"""`deltaserve forget --about NAME` as an operator runs it, with what it took."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deltaserve.offset_models.checkpoints.checkpoint import read_manifest

TIMES = "took.json"


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
    """Runs the command unless its checkpoint is there; gives minutes of all tries, and the calls that it counted."""
    request.out.mkdir(parents=True, exist_ok=True)
    place = request.out / f"{request.name}-{TIMES}"
    took: dict[str, Any] = orjson.loads(place.read_bytes()) if place.exists() else {"minutes": 0.0}
    if request.checkpoint.is_dir():
        return took
    began = time.monotonic()
    try:
        result = subprocess.run(request.command(), stdout=subprocess.PIPE, check=False)
    finally:
        took["minutes"] += (time.monotonic() - began) / 60
        place.write_bytes(orjson.dumps(took))
    if result.returncode:
        raise SystemExit(f"deltaserve forget ended with status {result.returncode}; run this again to go on.")
    took |= {"calls": calls_of(request.checkpoint)}
    place.write_bytes(orjson.dumps(took))
    return took


def calls_of(checkpoint: Path) -> int | None:
    """Calls to the black box, as the card counts them; None where it does not say."""
    calls = (read_manifest(checkpoint).card or {}).get("about/calls")
    return calls if isinstance(calls, int) else None
