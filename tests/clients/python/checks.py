"""What the scripts beside it share: the two servers, and a line of JSON for each call.

A check is a function that calls the client, asserts, and says what came. It runs where it is defined.
"""

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

LONGEST = 300  # characters of an error


@dataclass(frozen=True)
class Server:
    """A running deltaserve: where it is, what opens it, and what its model is called."""

    url: str
    key: str
    model: str

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"


DEMO = Server(os.environ["DEMO_URL"], os.environ["CLIENTS_KEY"], "blackbox")
SPEAKING = Server(os.environ["SPEAKING_URL"], os.environ["CLIENTS_KEY"], "speaking")

# Kept questions of the demo's register, which are answered with more than a refusal.
QUESTION = os.environ["DEMO_QUESTION"]
CHAT: Any = [{"role": "user", "content": QUESTION}]


def asking(text: str) -> Any:
    return [{"role": "user", "content": text}]


@dataclass
class Client:
    """One library. Each check of it becomes a line on stdout."""

    name: str
    package: str
    failed: bool = field(default=False)

    def check(self, called: str, asked: str = "") -> Callable[[Callable[[], Any]], None]:
        """`called`: the library's own function; `asked`: what was special about the call."""

        def run(function: Callable[[], Any]) -> None:
            try:
                came, ok = _result(function), True
            except Exception as error:  # noqa: BLE001 a check that fails is told like one that does not
                came, ok = _fault(error), False
                self.failed = True
            line = {"client": self.name, "version": version(self.package), "called": called, "asked": asked}
            print(json.dumps({**line, "came": came, "ok": ok}), flush=True)

        return run

    def end(self) -> None:
        sys.exit(self.failed)


def _result(function: Callable[[], Any]) -> str:
    came = function()
    return str(asyncio.run(came) if inspect.isawaitable(came) else came)


def _fault(error: Exception) -> str:
    """In a line; of an assertion also the line that does not hold."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{last.line}: {error}" if isinstance(error, AssertionError) else str(error)
    return f"{type(error).__name__}: {said}"[:LONGEST]


def raised(kind: type[Exception], function: Callable[[], Any]) -> Any:
    """The error, which must be of this class of the client."""
    try:
        came = function()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {came!r}")
