"""One offset (or sum of offsets) at one strength: a request pins one and opens its streams on it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import JsonValue

from deltaserve.errors import Unavailable
from deltaserve.offset_models.registry.state import VersionSpec
from deltaserve.offset_models.registry.weights import EnginePort, Handle, Weights
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.deciding.corrector import PairSession

FINGERPRINT_DIGITS = 12


class Version:
    """Immutable in what it answers. Freed when it is retired and its last user has left."""

    def __init__(
        self, spec: VersionSpec, weights: Sequence[Weights], engine: EnginePort, free: Callable[["Version"], None]
    ) -> None:
        self.spec = spec
        self.weights = tuple(weights)  # one for each part of the spec
        self.digest = spec.digest
        self.loaded_at = time.time()  # seconds since the epoch
        self.streams = 0  # open sessions
        self.retired = False
        self.freed = False
        self._pins = 0
        self._engine = engine
        self._free = free

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def strength(self) -> float:
        return self.spec.strength

    @property
    def fingerprint(self) -> str:
        """`system_fingerprint` of every answer of this version."""
        return f"ds-{self.name}-{self.digest[:FINGERPRINT_DIGITS]}"

    @property
    def tokenizer(self) -> Tokenizer:
        """Whose ids requests and answers are in: the black box's."""
        bridge = self.weights[0].bridge
        return self.weights[0].tokenizer if bridge is None else bridge.box.tokenizer

    @property
    def pair_tokenizer(self) -> Tokenizer | None:
        """The pair's, where it is another one."""
        return None if self.weights[0].bridge is None else self.weights[0].tokenizer

    @property
    def max_context(self) -> int:
        """Prompt and answer together, in tokens."""
        return self._engine.max_context

    @property
    def memory_bytes(self) -> int:
        """Of its weights, those shared with other versions included."""
        return sum(weights.memory_bytes for weights in self.weights)

    @property
    def metrics(self) -> dict[str, JsonValue]:
        """The evaluation card; for a sum, its parts' cards are not a measurement of it."""
        return dict(self.weights[0].card) if len(self.weights) == 1 else {}

    @contextmanager
    def pin(self) -> Iterator["Version"]:
        """Keeps the weights in memory for a whole request, whatever is activated or deleted meanwhile."""
        self._enter()
        try:
            yield self
        finally:
            self._leave()

    async def open(self, timeout_s: float, pair_prompt: Sequence[int] | None = None) -> PairSession:
        """A place for one stream. Raises RateLimited after `timeout_s`; Unavailable when the version is gone.

        `pair_prompt`: the prompt in the pair's own tokens, where its tokenizer is not the black box's.
        """
        self._enter()
        try:
            parts = [
                (w.handle, part.weight * self.strength) for w, part in zip(self.weights, self.spec.parts, strict=True)
            ]
            session = await self._opened(parts, timeout_s, pair_prompt)
        except BaseException:
            self._leave()
            raise
        self.streams += 1
        return _Session(session, self._closed)

    async def _opened(
        self, parts: Sequence[tuple[Handle, float]], timeout_s: float, pair_prompt: Sequence[int] | None
    ) -> PairSession:
        bridge = self.weights[0].bridge
        if bridge is None:
            return await self._engine.open(parts, timeout_s)
        # Here, since it imports torch: who only looks at offsets (`deltaserve doctor`) does without.
        from deltaserve.offset_models.bridge.session import BridgedSession

        handles, strengths = [handle for handle, _ in parts], [strength for _, strength in parts]
        return BridgedSession(await self._engine.open_each(handles, timeout_s), bridge, strengths, pair_prompt)

    def describe(self, state: str) -> dict[str, Any]:
        """As plain JSON types, for operators."""
        return {
            "name": self.name,
            "digest": self.digest,
            "fingerprint": self.fingerprint,
            "state": state,
            "strength": self.strength,
            "parts": [part.model_dump(mode="json") for part in self.spec.parts],
            "streams": self.streams,
            "memory_bytes": self.memory_bytes,
            "loaded_at": self.loaded_at,
            "metrics": self.metrics,
        }

    def retire(self) -> None:
        """No request will find it any more; it is freed now, or when its last user leaves."""
        self.retired = True
        self._free_if_unused()

    def _enter(self) -> None:
        if self.freed:
            raise Unavailable(f"The offset {self.name!r} was unloaded.")
        self._pins += 1

    def _leave(self) -> None:
        self._pins -= 1
        self._free_if_unused()

    def _closed(self) -> None:
        self.streams -= 1
        self._leave()

    def _free_if_unused(self) -> None:
        if self.retired and not self._pins and not self.freed:
            self.freed = True
            self._free(self)


class _Session:
    """The engine's session, which gives its pin back when it is closed, once."""

    def __init__(self, session: PairSession, closed: Callable[[], None]) -> None:
        self.prefetch = session.prefetch
        self.row = session.row
        self.rows_behind = session.rows_behind
        self.corrector = session.corrector
        self.scores = session.scores
        self._session: PairSession | None = session
        self._closed = closed

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            self._closed()
