"""A pair and a probed black box in this process, without the server around them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair_engine import PairEngine
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.version import Version
from deltaserve.offset_models.registry.weights import WeightsPool
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.stream import Stream
from deltaserve.server.upstream.base import BlackBox
from deltaserve.server.upstream.probing.connect import connect


@dataclass(frozen=True, slots=True)
class LocalPair:
    version: Version
    box: BlackBox

    @staticmethod
    @asynccontextmanager
    async def open(url: str, root: Path, offset: str, *, k: int = 20, streams: int = 1) -> AsyncIterator["LocalPair"]:
        engine = Engine(EngineSettings(max_streams=streams, max_len=1024, threads=1, dtype="float32"))
        engine.start()
        registry = Registry(WeightsPool(PairEngine(engine), root), root=root, served="blackbox")
        try:
            await registry.start(offset, None)
            version = registry.resolve(None)
            box = await connect(url, tokenizer=version.tokenizer, k=min(k, version.tokenizer.vocab_size))
            yield LocalPair(version, box)
            await box.aclose()
        finally:
            await registry.close()
            await asyncio.to_thread(engine.close)

    async def stream(self, question: str | Sequence[int], params: SamplingParams) -> Stream:
        """A stream for one question (or rendered ids); its end-of-answer ids are the tokenizer's."""
        tokenizer = self.version.tokenizer
        ids = list(question) if not isinstance(question, str) else self.encoded(question)
        params = replace(params, eos_ids=frozenset(tokenizer.eos_ids))
        session = await self.version.open(60.0)
        return Stream(ids, params, session, tokenizer.detokenizer(ids))

    def encoded(self, question: str) -> list[int]:
        rendered = self.version.tokenizer.render_chat([{"role": "user", "content": question}])
        return self.version.tokenizer.encode(rendered, False)
