"""Starts that cannot be, as real processes; what they print, they print without having read a model."""

import json
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE
from tests.support.command import Command
from tests.support.demo_weights import OFFSET
from tests.support.nursery import nursery_without_torch
from tests.support.process import environment_without_settings

NOWHERE = "http://127.0.0.1:9"
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from deltaserve.client.cli import main; main()"
WITHIN_S = 60.0


class Upstream(BaseHTTPRequestHandler):
    """Lists one model, to those who have the key where there is one."""

    key: str | None = None
    cards: Any = [{"id": "tiny", "owned_by": "vllm"}]  # noqa: RUF012

    def do_GET(self) -> None:
        if self.key is not None and self.headers.get("authorization") != f"Bearer {self.key}":
            self._send(401, {"error": "Unauthorized"})
        elif self.path == "/v1/models" and self.cards is not None:
            self._send(200, {"object": "list", "data": self.cards})
        else:
            self._send(404, {"error": {"message": "Not Found"}})

    def _send(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None: ...


@dataclass
class Place:
    """One start: its options and environment, and what must end with the test."""

    weights: Path
    folder: Path
    stack: ExitStack
    options: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    limit: int | None = None  # bytes that a file may have

    def upstream(self, **about: Any) -> str:
        handler = type("Handler", (Upstream,), about)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        self.stack.callback(thread.join)
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def taken_port(self) -> str:
        taken = self.stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        return str(taken.getsockname()[1])

    def own_offset(self) -> Path:
        """A copy of the checkpoint that may be spoilt."""
        root = self.folder / "offsets"
        shutil.copytree(self.weights / OFFSET, root / OFFSET)
        self.options["offsets-root"] = str(root)
        return root / OFFSET

    def manifest(self, **changed: Any) -> None:
        path = self.own_offset() / MANIFEST_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def run(arguments: list[str], place: Place) -> "subprocess.CompletedProcess[str]":
    """`deltaserve` with these arguments, from nothing, where torch cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        env=environment_without_settings() | place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@contextmanager
def limited(place: Place) -> Iterator[None]:
    """As a full disk: no file may grow beyond the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if place.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (place.limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def given(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


Case = tuple[Callable[[Place], None], Status, str]  # what is wrong, the exit status, and words of the sentence

Check = Callable[[Case], None]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """A test for each case, under the name of what is wrong."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case[0].__name__) for case in cases])


def check_start(command: Command, monkeypatch: pytest.MonkeyPatch, place: Place, case: Case) -> None:
    """`serve` ends with one line on stderr that holds the sentence, and `doctor` prints the same line."""
    spoil, status, sentence = case
    spoil(place)
    monkeypatch.setenv("DELTASERVE_CONFIG", "")  # which --config sets for the process: taken back with the test
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    with limited(place):
        doctor = command("doctor", *given(place.options), "--torch-threads", "1")
    serve = nursery_without_torch().run(
        "deltaserve",
        "serve",
        *given(place.options),
        env=environment_without_settings() | place.environment,
        folder=place.folder,
        largest_file=place.limit,
        within_s=WITHIN_S,
    )
    assert serve.returncode == status, serve.stderr
    assert sentence in serve.stderr and len(serve.stderr.splitlines()) == 1, serve.stderr
    assert serve.stdout == ""
    problem = serve.stderr.strip()
    repeated = [line for line in doctor.stderr.splitlines() if line.endswith(problem)]
    assert len(repeated) == 1 and (repeated[0] == problem or repeated[0].startswith("Problem: ")), doctor.stderr
    assert "Traceback" not in doctor.stderr + doctor.stdout
    assert doctor.exit_code >= status, doctor.stderr
