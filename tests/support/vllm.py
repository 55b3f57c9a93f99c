"""vLLM's own server in a process of its own, on loopback alone."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.support.process import Running, free_port, running

READY_WITHIN_S = 600.0
COMMAND = "VLLM_BIN"
MODEL = "demo"
_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_HOST_IP": "127.0.0.1",  # where its own processes meet
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Vllm:
    """A running server: its address, its process, and a client."""

    url: str
    process: Running
    client: httpx.Client

    def greedy(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """vLLM's own greedy answer."""
        asked = {"model": MODEL, "prompt": list(ids), "max_tokens": max_tokens, "temperature": 0}
        answer = self.client.post("/v1/completions", json=asked | {"return_token_ids": True})
        assert answer.status_code == 200, answer.text
        tokens: list[int] = answer.json()["choices"][0]["token_ids"]
        return tokens

    def tokenize(self, text: str) -> list[int]:
        answer = self.client.post("/tokenize", json={"model": MODEL, "prompt": text, "add_special_tokens": False})
        assert answer.status_code == 200, answer.text
        tokens: list[int] = answer.json()["tokens"]
        return tokens

    def running_requests(self) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running{"))


def command() -> str | None:
    """The vllm command: VLLM_BIN, else the one on PATH."""
    return os.environ.get(COMMAND) or shutil.which("vllm")


@contextmanager
def vllm(model: Path, *flags: str, dtype: str = "float32") -> Iterator[Vllm]:
    """Serves a model folder on a free port of loopback; ended by its pid."""
    name = command()
    assert name is not None, f"there is no vllm on PATH; set {COMMAND}"
    port = free_port()
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", MODEL, "--dtype", dtype]
    fixed = ["--max-model-len", "1024", "--enforce-eager"]
    environment: dict[str, Any] = os.environ | _ENVIRONMENT
    with (
        running(name, "serve", str(model), *arguments, *fixed, *flags, env=environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        process.wait_until_ok(client, "/health", READY_WITHIN_S)
        yield Vllm(f"http://127.0.0.1:{port}", process, client)
