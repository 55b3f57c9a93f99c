"""A black box as the rest of the server sees it: what was probed, and the drafts it gives."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from deltaserve.server.decoding.protocols import Ahead, Block, Draft, DraftParams, Floats, Ids
from deltaserve.server.upstream.cost import Cost

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
    raw_with_bias: bool = False  # nor does it with a bias on the token to be drawn; where prompts are text
    generate: bool = False  # by SGLang's own route
    echo: bool = False  # by an answer that begins with the prompt
    grammar: bool = False  # by an answer that a grammar forces
    steps: bool = True  # by a call for each position
    holds_forms: bool = False  # it holds an answer to a JSON schema that it is sent
    same_forms: bool = False  # and to any grammar of ours, allowing what we allow: its engine is llguidance, too
    list_masked: bool = False  # what it lists then is of what the grammar allows, and of nothing else
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


class ProbedUpstream(Protocol):
    """A probed upstream. `draft` raises errors of the UpstreamError branch only; they carry no prompt text."""

    @property
    def capabilities(self) -> Capabilities: ...

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]: ...


class UpstreamDraft(Draft, Protocol):
    """A draft that tells what it cost."""

    @property
    def cost(self) -> Cost:
        """Of its calls so far: an answer that is broken off is counted as far as it came."""


class UpstreamSession(ProbedUpstream, Protocol):
    """One answer's calls to the black box, whichever server takes them. Its methods raise UpstreamError."""

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        """M's list after token_ids + drafted[:i], i = 0 … m. Only where the black box `scores_blocks`."""

    @property
    def most(self) -> int:
        """Ids that one call may name. Only where the black box `names_ids`."""

    @property
    def goes_on(self) -> bool:
        """Whether such a call may also tell how the black box goes on."""

    @property
    def beside(self) -> bool:
        """Whether a draft's own call may name ids, too."""

    async def named(self, prefixes: Sequence[Sequence[int]], ids: Ids) -> Sequence[Floats]:
        """ℓ of these ids after each prefix, as `NamedIds` says."""

    async def ahead(self, prefix: Sequence[int], token_id: int, ids: Ids, length: int) -> Ahead:
        """The same, and M's next tokens behind the prefix and `token_id`, as `NamedIds` says."""

    def prompt_lists(
        self, token_ids: Sequence[int], params: DraftParams, *, goes_on: bool = True, max_context: int | None = None
    ) -> AsyncGenerator[tuple[Block, int], None]:
        """M's lists along a prompt, some in each block, with the number of calls; as `listing.prompts` gives them."""

    @property
    def costs(self) -> Mapping[str, Cost]:
        """What the answer's calls have cost so far, by the name of the server."""

    def close(self) -> None:
        """The answer has ended."""


class BlackBox(ProbedUpstream, Protocol):
    """The black box behind a server of ours: one upstream, or several of one model."""

    @property
    def scores_blocks(self) -> bool:
        """Whether sessions can check blocks that the pair drafts, and it pays to let them."""

    @property
    def names_ids(self) -> bool:
        """Whether sessions can ask for ids by name."""

    @property
    def names_go_on(self) -> bool:
        """Whether such a call can also tell what the black box says behind a token."""

    def session(self) -> UpstreamSession:
        """For one answer."""

    def problem(self) -> str | None:
        """Why nothing can be asked now, as far as is known without asking."""

    def members(self) -> list[dict[str, Any]]:
        """Each server with its name, its state and what it has cost, as plain JSON types."""

    async def ping(self) -> None:
        """One cheap call; raises UpstreamError when the black box does not answer."""

    async def aclose(self) -> None: ...
