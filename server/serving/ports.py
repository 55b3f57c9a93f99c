"""What serving asks of the offset versions, their tokenizer and the black box."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import tokenizers

from deltaserve.server.decoding.deciding.corrector import CorrectingSession
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.stream import Stream
from deltaserve.server.decoding.text import PlacedDetokenizer
from deltaserve.server.upstream.dialects.completions import CompletionsBox

_PLACE_S = 600.0  # how long an answer outside of any request waits for its turn


class Tokenizer(Protocol):
    """What the wire needs of a tokenizer."""

    @property
    def backend(self) -> tokenizers.Tokenizer: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_ids(self) -> Sequence[int]: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def turn_end_id(self) -> int | None: ...
    @property
    def recommended(self) -> Mapping[str, float]: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def longest_token(self) -> int: ...
    @property
    def chat_template(self) -> str | None: ...
    def encode(self, text: str, add_special: bool) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str: ...
    def check_ids(self, ids: Sequence[int]) -> None: ...
    def token_bytes(self, token_id: int) -> bytes: ...
    def detokenizer(self, prompt_ids: Sequence[int] = ()) -> PlacedDetokenizer: ...
    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        chat_template_kwargs: Mapping[str, Any] | None,
    ) -> str: ...


class Version(Protocol):
    """One loaded offset at one strength."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def max_context(self) -> int: ...
    def pin(self) -> AbstractContextManager[Any]: ...
    async def open(self, timeout_s: float) -> CorrectingSession: ...


class Registry(Protocol):
    """The loaded versions. `resolve` raises ModelNotFound or Unavailable."""

    @property
    def alive(self) -> bool: ...
    def engine_stats(self) -> Mapping[str, float]: ...
    def resolve(self, model: str | None) -> Version: ...
    def cards(self) -> Sequence[tuple[str, float, Version]]: ...


@dataclass(frozen=True, slots=True)
class Backends:
    """The black box and the offset versions that answer together."""

    upstream: CompletionsBox
    registry: Registry
    served_name: str
    upstream_problem: Callable[[], str | None] = lambda: None  # why the black box is not asked now, where that is known

    def end_ids(self, version: Version) -> frozenset[int]:
        """Ids that end an answer: those the pair's files name and those the black box ends its own answers with."""
        return frozenset(version.tokenizer.eos_ids).union(self.upstream.capabilities.end_ids)

    @asynccontextmanager
    async def stream(
        self, version: Version, prompt_ids: Sequence[int], params: SamplingParams, timeout_s: float = _PLACE_S
    ) -> AsyncIterator[Stream]:
        """One choice outside of any request, with the ids that end its answer. Raises RateLimited after `timeout_s`."""
        session = await version.open(timeout_s)
        try:
            params = replace(params, eos_ids=self.end_ids(version))
            yield Stream(list(prompt_ids), params, session, version.tokenizer.detokenizer(prompt_ids))
        finally:
            session.close()
