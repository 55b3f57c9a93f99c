"""The tokenizers of the engine's versions, loaded from the same folders and proven to be the same."""

import asyncio
from pathlib import Path

from deltaserve.errors import BadCheckpoint, OffsetUnavailable
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.processes.wire.messages import VersionFacts
from deltaserve.server.processes.wire.version_facts import tokenizer_digest


class Tokenizers:
    """By digest; each is loaded once. Belongs to one event loop."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tokenizer] = {}
        self._loading = asyncio.Lock()

    async def of(self, facts: VersionFacts) -> Tokenizer:
        """Raises OffsetUnavailable where the folder no longer holds the tokenizer that the engine uses."""
        known = self._loaded.get(facts.tokenizer_digest)
        if known is not None:
            return known
        async with self._loading:
            if facts.tokenizer_digest not in self._loaded:
                self._loaded[facts.tokenizer_digest] = await asyncio.to_thread(_load, facts)
        return self._loaded[facts.tokenizer_digest]


def _load(facts: VersionFacts) -> Tokenizer:
    try:
        tokenizer = Tokenizer.load(Path(facts.tokenizer_folder))
    except BadCheckpoint as error:
        raise OffsetUnavailable(f"The tokenizer of {facts.name!r} is gone: {error.message}") from error
    if tokenizer_digest(tokenizer) != facts.tokenizer_digest:
        raise OffsetUnavailable(
            f"The tokenizer in {Path(facts.tokenizer_folder).name!r} is no longer the one with which the offset "
            f"{facts.name!r} was loaded: restore the folder, or load the offset anew."
        )
    return tokenizer
