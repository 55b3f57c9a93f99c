"""The whole server as people run it: a process with its settings in the environment, asked over HTTP."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.support.process import Running, environment_without_settings, forked, free_port

READY_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True)
class Deltaserve:
    """A running server: its address, its process, and a client."""

    url: str
    upstream: str
    process: Running
    client: httpx.Client

    @property
    def upstream_port(self) -> int:
        return httpx.URL(self.upstream).port or 0

    def chat(self, text: str, **body: Any) -> str:
        """A whole answer to one question, greedy unless `body` says otherwise."""
        answer = self.client.post("/v1/chat/completions", json=question(text, **body))
        assert answer.status_code == 200, answer.text
        content: str = answer.json()["choices"][0]["message"]["content"]
        return content

    def chat_stream(self, text: str, **body: Any) -> list[str]:
        """The same answer piece by piece, as it came."""
        with self.client.stream("POST", "/v1/chat/completions", json=question(text, stream=True, **body)) as answer:
            assert answer.status_code == 200, answer.read()
            chunks = [json.loads(event) for event in events(answer) if event != "[DONE]"]
        return [piece for chunk in chunks if (piece := chunk["choices"][0]["delta"].get("content"))]

    def complete(self, ids: Sequence[int], **body: Any) -> dict[str, Any]:
        """The choice of a completion from token ids, greedy unless `body` says otherwise; with its `token_ids`."""
        asked = {"prompt": list(ids), "temperature": 0, "return_token_ids": True, **body}
        answer = self.client.post("/v1/completions", json=asked)
        assert answer.status_code == 200, answer.text
        choice: dict[str, Any] = answer.json()["choices"][0]
        return choice

    def metric(self, name: str) -> float:
        """A counter or gauge of /metrics, without the prefix."""
        found = re.search(rf"^deltaserve_{name} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert found is not None, f"there is no metric {name}"
        return float(found[1])

    def status(self, path: str) -> int:
        code: int = self.client.get(path).status_code
        return code


def question(text: str, **body: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 48, **body}


def events(answer: httpx.Response) -> Iterator[str]:
    """`data:` payloads of a stream as they arrive."""
    held = b""
    for part in answer.iter_bytes():
        *frames, held = (held + part).split(b"\n\n")
        yield from (frame.decode().removeprefix("data: ") for frame in frames)


@contextmanager
def deltaserve(upstream: str, checkpoint: Path, **settings: object) -> Iterator[Deltaserve]:
    """In front of `upstream` with the offset at `checkpoint`; `settings` by their own names. Ended by its pid."""
    port = free_port()
    given = {
        "upstream_url": upstream,
        "offsets_root": checkpoint.parent,
        "offset": checkpoint.name,
        "port": port,
        "torch_threads": 1,
        "drain_timeout_s": 1,
        **settings,
    }
    env = environment_without_settings() | {f"DELTASERVE_{name.upper()}": str(value) for name, value in given.items()}
    with (
        forked("deltaserve", "serve", env=env) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        process.wait_until_ok(client, "/health/ready", READY_WITHIN_S)
        yield Deltaserve(f"http://127.0.0.1:{port}", upstream, process, client)
