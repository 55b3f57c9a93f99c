"""A whole server on loopback around a scripted black box and a flat offset pair."""

import asyncio
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from deltaserve.errors import ModelNotFound
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.app import create_app, make_server
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.protocols import Block, DraftParams, OffsetRow, Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.serving.ports import Backends
from deltaserve.server.serving.service import Serving
from deltaserve.server.settings import Settings
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.listing.prompts import prompt_lists
from tests.support.process import free_port

START, END = 256, 257
VOCAB = 258
UP_WITHIN_S = 60.0  # other tests may have the cores
TEXT = "abcdefgh é 漢字 ijklm ".encode()  # what the black box says, position by position, over and over

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if not loop.last or not continue_final_message %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(folder: Path) -> Tokenizer:
    """One id per byte, in the order of their values, and two special tokens."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, pre_tokenizers
    from tokenizers.models import BPE

    backend = Backend(BPE({_letter(byte): byte for byte in range(256)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    backend.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.load(folder)


def _letter(byte: int) -> str:
    """GPT-2's printable stand-in for a byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(byte) if byte in printable else chr(256 + [b for b in range(256) if b not in printable].index(byte))


@dataclass
class ScriptedDraft:
    box: "ScriptedBlackBox"
    ids: list[int]
    params: DraftParams

    @property
    def temperature(self) -> float | None:
        return self.params.temperature

    def arrived(self) -> list[Proposal]:
        return []

    async def __aiter__(self) -> AsyncIterator[Proposal]:
        await asyncio.sleep(self.box.first_delay_s)
        for count in range(self.params.max_tokens):
            await asyncio.sleep(self.box.delay_s)
            if self.box.fault is not None and count >= self.box.fault_after:
                raise self.box.fault
            yield self._proposal()

    def _proposal(self) -> Proposal:
        at = len(self.ids)
        token = END if at >= self.box.ends_at else TEXT[at % len(TEXT)]
        self.ids.append(token)
        self.box.proposed += 1
        others = [i for i in b"xyz!" if i != token]
        return Proposal(token, np.array([token, *others]), np.log([0.6, 0.15, 0.1, 0.05, 0.04][: 1 + len(others)]))


@dataclass
class ScriptedBlackBox:
    """Says TEXT at 60 %, one of `xyz!` at 34 %, anything else at the rest."""

    delay_s: float = 0.0
    first_delay_s: float = 0.0
    fault: Exception | None = None
    fault_after: int = 0
    ends_at: float = math.inf
    max_context: int | None = 512
    proposed: int = 0
    open: int = 0
    calls: int = 0
    down: Exception | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            "vllm", "scripted", "scripted", 5, 5, VOCAB, self.max_context, True, True, True, False, False, None
        )

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator[ScriptedDraft]:
        self.open += 1
        self.calls += 1
        try:
            yield ScriptedDraft(self, list(token_ids), params)
        finally:
            self.open -= 1

    scores_blocks = names_ids = names_go_on = False

    def session(self) -> "ScriptedSession":
        return ScriptedSession(self)

    def problem(self) -> str | None:
        return None

    def members(self) -> list[dict[str, object]]:
        return [{"name": "scripted", "state": "serving", "fault": None}]

    async def ping(self) -> None:
        if self.down is not None:
            raise self.down

    async def aclose(self) -> None:
        pass


@dataclass
class ScriptedSession:
    """One answer's calls; each proposal is billed."""

    box: ScriptedBlackBox
    costs: dict[str, Cost] = field(default_factory=dict)
    closed: bool = False

    @property
    def capabilities(self) -> Capabilities:
        return self.box.capabilities

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator[ScriptedDraft]:
        sent = len(token_ids)  # the list itself grows with the answer
        async with self.box.draft(token_ids, params) as draft:
            try:
                yield draft
            finally:
                self._bill(Cost(1, sent, len(draft.ids) - sent))

    async def prompt_lists(
        self, token_ids: Sequence[int], params: DraftParams, **how: Any
    ) -> AsyncIterator[tuple[Block, int]]:
        async with aclosing(prompt_lists(self.box, token_ids, params, **how)) as portions:
            async for block, calls in portions:
                self._bill(Cost(calls, block.read, block.drawn))
                yield block, calls

    def _bill(self, cost: Cost) -> None:
        self.costs["scripted"] = self.costs.get("scripted", Cost()) + cost

    def close(self) -> None:
        self.closed = True


@dataclass
class FlatSession(RowSession):
    version: "FlatVersion"

    def prefetch(self, token_ids: Sequence[int]) -> None:
        self.version.prefetched += 1

    async def row(self, token_ids: Sequence[int]) -> OffsetRow:
        if self.version.row_fault is not None:
            raise self.version.row_fault
        return self.version.flat

    def close(self) -> None:
        self.version.sessions -= 1


@dataclass
class FlatVersion:
    """A pair that corrects nothing but what `offset` says."""

    tokenizer: Tokenizer
    name: str = "flat"
    max_context: int = 600
    pins: int = 0
    sessions: int = 0
    prefetched: int = 0
    row_fault: Exception | None = None
    pair_tokenizer: Tokenizer | None = None
    flat: NumpyRow = field(default_factory=lambda: NumpyRow(np.full(VOCAB, -math.log(VOCAB)), np.zeros(VOCAB)))

    @property
    def fingerprint(self) -> str:
        return f"ds-{self.name}-0123456789ab"

    @contextmanager
    def pin(self) -> Iterator[None]:
        self.pins += 1
        try:
            yield
        finally:
            self.pins -= 1

    async def open(self, timeout_s: float, pair_prompt: Sequence[int] | None = None) -> FlatSession:
        self.sessions += 1
        return FlatSession(self)


@dataclass
class OneVersion:
    version: FlatVersion
    alive: bool = True
    max_streams: int = 8

    async def engine_stats(self) -> dict[str, float]:
        return {"rows": 3.0}

    @asynccontextmanager
    async def pinned(self, model: str | None) -> AsyncIterator[FlatVersion]:
        if model not in (None, "tiny"):
            raise ModelNotFound.among(model, [name for name, _, _ in await self.cards()])
        with self.version.pin():
            yield self.version

    async def serve_as(self, name: str) -> None:
        assert name == "tiny"

    async def cards(self) -> list[tuple[str, float, FlatVersion]]:
        return [("tiny", 1_700_000_000.0, self.version)]


@dataclass
class RunningApp:
    """A server in a thread, and what it runs on."""

    url: str
    box: ScriptedBlackBox
    version: FlatVersion
    registry: OneVersion
    server: uvicorn.Server
    serving: Serving

    def idle(self) -> bool:
        return self.box.open == 0 and self.version.sessions == 0 and self.version.pins == 0


@contextmanager
def running_app(tokenizer: Tokenizer, box: ScriptedBlackBox | None = None, **settings: object) -> Iterator[RunningApp]:
    """Real HTTP on an ephemeral port of loopback; stopped at the end."""
    box, version = box or ScriptedBlackBox(), FlatVersion(tokenizer)
    registry = OneVersion(version)
    app = create_app(Settings(**settings), backends=Backends(box, registry, "tiny"))
    with serve(app) as (server, url):
        yield RunningApp(url, box, version, registry, server, app.state.serving)


@contextmanager
def listening_app(
    tokenizer: Tokenizer, box: ScriptedBlackBox | None = None, **settings: object
) -> Iterator[RunningApp]:
    """The same behind the server's own listener, as `deltaserve serve` has it; answers may be long."""
    given = Settings(**{"port": free_port(), "drain_timeout_s": 1, "log_level": "error", **settings})
    box, version = box or ScriptedBlackBox(max_context=None), FlatVersion(tokenizer, max_context=1_000_000)
    registry = OneVersion(version)
    app = create_app(given, backends=Backends(box, registry, "tiny"))
    server = make_server(app, given)
    with in_thread(server):
        yield RunningApp(f"http://127.0.0.1:{given.port}", box, version, registry, server, app.state.serving)


@contextmanager
def in_thread(server: uvicorn.Server) -> Iterator[None]:
    """Runs it until the end of the context."""
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive(), within_s=UP_WITHIN_S)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


@contextmanager
def serve(app: object) -> Iterator[tuple[uvicorn.Server, str]]:
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive(), within_s=UP_WITHIN_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=5)


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Waits for the condition; fails after `within_s`."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
