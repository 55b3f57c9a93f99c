"""A pair and a probed black box in this process, without the server around them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.registry.version import Version
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.stream import Stream
from deltaserve.server.serving.local_registry import LocalRegistry
from deltaserve.server.serving.ports import Backends
from deltaserve.server.serving.versions import open_versions
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.pool.pool import sole
from deltaserve.server.upstream.probing.connect import connect


@dataclass(frozen=True, slots=True)
class LocalPair:
    version: Version
    backends: Backends
    box: CompletionsBox

    @staticmethod
    @asynccontextmanager
    async def open(
        url: str,
        root: Path,
        offset: str,
        *,
        k: int = 20,
        streams: int = 1,
        device: str = "cpu",
        dtype: Literal["float32", "bfloat16"] = "float32",
        batch_decisions: bool | None = None,
    ) -> AsyncIterator["LocalPair"]:
        settings = EngineSettings(
            max_streams=streams,
            max_len=1024,
            threads=1,
            device=device,
            dtype=dtype,
            batch_decisions=batch_decisions,
        )
        async with open_versions(settings, root, served="blackbox") as registry:
            await registry.start(offset, None)
            version = registry.resolve(None)
            box = await connect(url, tokenizer=version.tokenizer, k=min(k, version.tokenizer.vocab_size))
            yield LocalPair(version, Backends(sole(box), LocalRegistry(registry), registry.served), box)
            await box.aclose()

    def stream(self, question: str | Sequence[int], params: SamplingParams) -> AbstractAsyncContextManager[Stream]:
        """A stream for one question (or rendered ids)."""
        ids = question if not isinstance(question, str) else self.encoded(question)
        return self.backends.stream(self.version, ids, params)

    def encoded(self, question: str) -> list[int]:
        rendered = self.version.tokenizer.render_chat([{"role": "user", "content": question}])
        return self.version.tokenizer.encode(rendered, False)
