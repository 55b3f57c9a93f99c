"""llama.cpp's own server in a process of its own; `python -m tests.support.llamacpp MODEL.gguf` is that process."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.support.process import Running, free_port, running

READY_WITHIN_S = 60.0
SLOTS = 2


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """A running server: its address, its process, and a client."""

    url: str
    process: Running
    client: httpx.Client

    def greedy(self, ids: Sequence[int], max_tokens: int, **body: Any) -> list[int]:
        """llama.cpp's own greedy answer through its native route: all ids, also those its streams swallow."""
        asked = {"prompt": list(ids), "n_predict": max_tokens, "temperature": 0, "return_tokens": True, **body}
        tokens: list[int] = self._post("/completion", asked)["tokens"]
        return tokens

    def top(self, ids: Sequence[int], k: int, **body: Any) -> dict[int, float]:
        """Its k most probable next tokens with their log-probabilities."""
        asked = {"prompt": list(ids), "n_predict": 1, "temperature": 0, "n_probs": k, "cache_prompt": False, **body}
        (first, *_) = self._post("/completion", asked)["completion_probabilities"]
        return {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}

    def tokenize(self, text: str) -> list[int]:
        asked = {"content": text, "add_special": False, "parse_special": True}
        tokens: list[int] = self._post("/tokenize", asked)["tokens"]
        return tokens

    def busy_slots(self) -> int:
        return sum(slot["is_processing"] for slot in self.client.get("/slots").json())

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def llamacpp(gguf: Path, *, port: int | None = None) -> Iterator[LlamaCpp]:
    """Serves `gguf` on loopback (any free port unless one is given); ended by its pid."""
    port = port or free_port()
    with (
        running(sys.executable, "-m", "tests.support.llamacpp", str(gguf), "--port", str(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        process.wait_until_ok(client, "/health", READY_WITHIN_S)
        yield LlamaCpp(f"http://127.0.0.1:{port}", process, client)


def _serve(gguf: Path, port: int, context: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port = str(gguf), ["127.0.0.1"], port
    params.n_ctx, params.n_parallel = context * SLOTS, SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_props = params.endpoint_slots = True
    server = xllamacpp.Server(params)
    while server:  # it ends with the process
        time.sleep(3600)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=1024, help="tokens of each slot")
    given = parser.parse_args()
    _serve(given.gguf, given.port, given.context)
