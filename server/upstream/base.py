"""A black box as the rest of the server sees it: what was probed, and the drafts it gives."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from deltaserve.server.decoding.protocols import Draft, DraftParams

Dialect = Literal[
    "vllm", "llamacpp", "openai", "sglang", "fireworks", "together", "ollama", "chat", "deepseek", "openrouter"
]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the start-up probe found; decides how drafts are requested. Shown by `deltaserve doctor`."""

    dialect: Dialect
    server: str  # what the server calls itself, with its version where it says one
    model: str  # the name to send in `model`
    k: int  # top-k that drafts will ask for
    max_k: int  # largest the server gave or admitted
    vocab_size: int | None  # ids the upstream's model can emit, where the server tells
    max_context: int | None  # prompt + answer, in tokens
    ids_in: bool  # the prompt may be token ids
    ids_out: bool  # the alternatives carry token ids
    raw_logprobs: bool  # the list does not change with the temperature asked for
    prompt_list: bool  # lists along a text: by several prompts in one call
    prompt_logprobs: bool  # by vLLM's top-k of prompt positions
    prefix_cache: bool | None  # a second identical call reads the cache; None: unknown; False: it is told not to
    named_ids: int = 0  # ids whose log-probabilities one call may ask for by name; 0: it tells none
    greedy_raw: bool = False  # where it does, a greedy answer's list is the one at temperature 1
    generate: bool = False  # by SGLang's own route
    echo: bool = False  # by an answer that begins with the prompt
    grammar: bool = False  # by an answer that a grammar forces
    steps: bool = True  # by a call for each position
    begins: int | None = None  # the token that it puts before a text by itself; where prompts are text
    reads_specials: bool = True  # a special token's text in a prompt is read as that token
    counts_prompts: bool = False  # it was seen to count a prompt's tokens as the pair does
    provider: str | None = None  # who answers behind a router of many
    slots: int | None = None  # requests it works on at a time, each slot with a prefix cache of its own; None: not said
    end_ids: tuple[int, ...] = ()  # ids that it was seen, or says, to end its answers with
    notes: tuple[str, ...] = ()  # sentences for the operator: what was worked around, what is slower than it need be

    def describe(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


class TokenizerView(Protocol):
    """The pair's tokenizer as far as upstreams need it. Called on the hot path: lookups should be tables."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that have no text in an answer."""

    @property
    def added_ids(self) -> frozenset[int]:
        """Ids of added tokens, special or not: the ends of answers are among them."""

    @property
    def eos_ids(self) -> Sequence[int]:
        """Ids that end an answer, as far as the pair's own files tell."""

    @property
    def vocab_size(self) -> int:
        """How many ids the tokenizer really has; model rows past it are padding."""

    def encode(self, text: str, add_special: bool = False) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for; for a special token its text."""

    def token_text(self, token_id: int) -> str:
        """The token as people see it, special tokens included; fragments of characters as U+FFFD."""


class BlackBox(Protocol):
    """A probed upstream. `draft` raises errors of the UpstreamError branch only; they carry no prompt text."""

    swallowed_positions: int  # positions whose draw the upstream did not show; their top-k was asked for again
    blind_positions: int  # of these, positions where even that failed: nobody may decide them but with allow_blind

    @property
    def capabilities(self) -> Capabilities: ...

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]: ...

    async def ping(self) -> None:
        """One cheap call; raises UpstreamError when the black box does not answer."""

    async def aclose(self) -> None: ...
