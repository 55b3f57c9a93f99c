"""A black box of a page, served over real HTTP, whose top-k is known."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest

VOCABULARY = 40


@dataclass
class ScriptedBlackBox:
    """Answers scoring calls; logprobs depend on the token before. `failures`: statuses to give first."""

    url: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    spoil: Any = None  # a function that changes the list of positions before it is sent

    def row(self, token: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        logits = np.random.default_rng(token).normal(0, 2, VOCABULARY)
        return logits - np.log(np.exp(logits).sum())

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        ids, k = body["prompt"], body["prompt_logprobs"]
        positions: list[Any] = [None]
        for before, token in pairwise(ids):
            row = self.row(before)
            order = np.argsort(-row)
            listed = [*order[:k].tolist(), *([token] if token not in order[:k] else [])]
            ranks = {int(i): int(np.where(order == i)[0][0]) + 1 for i in listed}
            # Alphabetical, as a reader must not rely on the order of keys.
            positions.append({str(i): {"logprob": float(row[i]), "rank": ranks[i]} for i in sorted(ranks, key=str)})
        if self.spoil:
            positions = self.spoil(positions)
        return {"choices": [{"index": 0, "text": "", "prompt_logprobs": positions}]}


def handler_for(box: ScriptedBlackBox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            box.calls.append(body)
            status = box.failures.pop(0) if box.failures else 200
            payload = orjson.dumps(box.answer(body) if status == 200 else {"error": {"message": "no"}})
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def black_box() -> Iterator[ScriptedBlackBox]:
    box = ScriptedBlackBox()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(box))
    server.daemon_threads = True
    box.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield box
    server.shutdown()
    thread.join()
    server.server_close()
