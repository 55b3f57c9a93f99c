"""What serving asks of the offset versions, their tokenizer and the black box."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import tokenizers

from deltaserve.server.decoding.constraints.compiling import GrammarCompiler
from deltaserve.server.decoding.deciding.corrector import CorrectingSession
from deltaserve.server.decoding.output.text import PlacedDetokenizer
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.stream import Stream
from deltaserve.server.upstream.base import BlackBox

if TYPE_CHECKING:
    from deltaserve.offset_models.registry.audit import Actor

Json = dict[str, Any]

_PLACE_S = 600.0  # how long an answer outside of any request waits for its turn


class Veil(Protocol):
    """Covers special tokens that stand in the words of a chat, until it is rendered."""

    def over(self, value: Any) -> Any: ...
    def ends_within(self, text: str) -> bool: ...
    def off(self, text: str) -> str: ...


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
    def added_ids(self) -> frozenset[int]: ...
    @property
    def longest_token(self) -> int: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def tool_template(self) -> str | None: ...
    @property
    def template_variables(self) -> frozenset[str]: ...
    @property
    def grammars(self) -> GrammarCompiler: ...
    def encode(self, text: str, add_special: bool = False) -> list[int]: ...
    def encode_chat(self, text: str, veil: Veil, add_special: bool = False) -> list[int]: ...
    def veil(self, value: Any) -> Veil | None: ...
    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str: ...
    def check_ids(self, ids: Sequence[int]) -> None: ...
    def token_bytes(self, token_id: int) -> bytes: ...
    def token_text(self, token_id: int) -> str: ...
    def detokenizer(self, prompt_ids: Sequence[int] = (), *, special: bool = False) -> PlacedDetokenizer: ...
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
    def pair_tokenizer(self) -> Tokenizer | None:
        """The pair's, where it is not the black box's: its prompts are written for both."""

    @property
    def max_context(self) -> int: ...
    async def open(self, timeout_s: float, pair_prompt: Sequence[int] | None = None) -> CorrectingSession:
        """A place for one stream. `pair_prompt`: the prompt in the tokens of `pair_tokenizer`."""


class Registry(Protocol):
    """The loaded versions, as requests need them. The engine may be a process of its own, so that most calls wait."""

    @property
    def alive(self) -> bool:
        """Whether the engine can be asked now."""

    @property
    def max_streams(self) -> int:
        """Choices that the engine takes at a time; 0 where they are counted elsewhere."""

    async def engine_stats(self) -> Mapping[str, float]:
        """Counters of the engine since its start, by name; empty while it is away."""

    def pinned(self, model: str | None) -> AbstractAsyncContextManager[Version]:
        """The version that `model` names (None: the active one), kept loaded for the length of the context.

        Raises ModelNotFound, Unavailable.
        """

    async def cards(self) -> Sequence[tuple[str, float, Version]]:
        """(model name, loaded at, version): the active one under the served name, then each other one."""

    async def serve_as(self, name: str) -> None:
        """From now on clients call the active version by this name."""


class Offsets(Registry, Protocol):
    """The loaded versions, as operators see and change them, in plain JSON types. A failure changes nothing."""

    async def listing(self) -> Json:
        """Every version, every load that runs or failed, and which one is active."""

    async def add(
        self, name: str, path: str, *, strength: float | None, activate: bool, wait: bool, actor: "Actor"
    ) -> Json | None:
        """Load the checkpoint at `path`. None where it was accepted and is loading; with `wait` always its end."""

    async def sum(self, name: str, parts: Mapping[str, float | None], *, activate: bool, actor: "Actor") -> Json:
        """Several loaded offsets as one: offset name → strength (None: its own)."""

    async def activate(self, name: str, *, quorum: int | None = None, actor: "Actor") -> Json:
        """In a fleet: once every live replica, or `quorum` of them, has it loaded."""

    async def rollback(self, *, quorum: int | None = None, actor: "Actor") -> Json:
        """As `activate`."""

    async def set_strength(self, name: str, strength: float, *, actor: "Actor") -> Json: ...
    async def unload(self, name: str, *, actor: "Actor") -> Json: ...
    async def audit(self, limit: int, before: int | None) -> Json:
        """A page of the audit log, newest first. Raises Unavailable where none is kept."""

    async def fleet(self) -> Json:
        """Which replica holds what, and the streams on it; a server by itself is a fleet of one without a store."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The black box and the offset versions that answer together."""

    upstream: BlackBox
    registry: Registry
    served_name: str

    def end_ids(self, version: Version) -> frozenset[int]:
        """Ids that end an answer: those the pair's files name and those the black box ends its own answers with."""
        return frozenset(version.tokenizer.eos_ids).union(self.upstream.capabilities.end_ids)

    @asynccontextmanager
    async def stream(
        self,
        version: Version,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        timeout_s: float = _PLACE_S,
        pair_prompt: Sequence[int] | None = None,
    ) -> AsyncIterator[Stream]:
        """One choice outside of any request, with the ids that end its answer. Raises RateLimited after `timeout_s`.

        `pair_prompt`: as of `Version.open`.
        """
        session = await version.open(timeout_s, pair_prompt)
        try:
            params = replace(params, eos_ids=self.end_ids(version))
            yield Stream(list(prompt_ids), params, session, version.tokenizer.detokenizer(prompt_ids))
        finally:
            session.close()
