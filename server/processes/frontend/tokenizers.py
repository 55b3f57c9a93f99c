"""The tokenizers of the engine's versions, loaded from the same folders and proven to be the same."""

import asyncio
from pathlib import Path

from deltaserve.errors import BadCheckpoint, OffsetUnavailable
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.processes.wire.messages import TokenizerFacts
from deltaserve.server.processes.wire.version_facts import tokenizer_digest


class Tokenizers:
    """By digest; each is loaded once. Belongs to one event loop."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tokenizer] = {}
        self._loading = asyncio.Lock()

    async def of(self, facts: TokenizerFacts, offset: str) -> Tokenizer:
        """`offset`: whose. Raises OffsetUnavailable where the folder no longer holds what the engine uses."""
        known = self._loaded.get(facts.digest)
        if known is not None:
            return known
        async with self._loading:
            if facts.digest not in self._loaded:
                self._loaded[facts.digest] = await asyncio.to_thread(_load, facts, offset)
        return self._loaded[facts.digest]


def _load(facts: TokenizerFacts, offset: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.load(Path(facts.folder))
    except BadCheckpoint as error:
        raise OffsetUnavailable(f"The tokenizer of {offset!r} is gone: {error.message}") from error
    if tokenizer_digest(tokenizer) != facts.digest:
        raise OffsetUnavailable(
            f"The tokenizer in {Path(facts.folder).name!r} is no longer the one with which the offset "
            f"{offset!r} was loaded: restore the folder, or load the offset anew."
        )
    return tokenizer
