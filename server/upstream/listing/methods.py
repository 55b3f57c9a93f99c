"""The methods to ask for M's lists along a given text: their names, their interface, and what they cost.

Those that score a whole text in one call are vLLM's `prompt_logprobs`, SGLang's `generate` and `echo`. Without them the
text is forced on the black box: by a grammar, or each position is a prompt with max_tokens 1, many in one call or one
by one.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, Literal, Protocol, get_args

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.dialects.completions import CompletionsBox

MethodName = Literal["prompt_logprobs", "generate", "echo", "grammar", "prompt_list", "steps"]
NAMES: Final[tuple[MethodName, ...]] = get_args(MethodName)  # from the cheapest on
ONE_TOKEN: Final = DraftParams(0.0, 1)


class Method(Protocol):
    """One method. A call tells the lists of at most `span` positions; None: of all of them."""

    name: ClassVar[MethodName]
    span: ClassVar[int | None]

    async def lists(self, prefix: Sequence[int], text: Sequence[int]) -> list[Proposal]:
        """M's top-k before each id of `text`, in one call. Raises UpstreamError; a partial answer is none."""

    def cost(self, prefix: int, text: int) -> Cost:
        """Of that call, for so many ids."""


class OnePrompt:
    """What the methods share that take one call, whatever the length."""

    span: ClassVar[int | None] = None

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    def cost(self, prefix: int, text: int) -> Cost:
        return Cost(1, prefix + text, 1)


def spans(method: Method, length: int) -> list[tuple[int, int]]:
    """The calls that a text of `length` ids takes, as (start, stop)."""
    span = method.span or length
    return [(start, min(start + span, length)) for start in range(0, length, span)]


def complete(lists: Sequence[Proposal]) -> list[Proposal]:
    """The lists. Raises MalformedTopK where one of them is not known."""
    if not all(proposal.top_ids.size for proposal in lists):
        raise MalformedTopK("The upstream does not show its list at every position: it swallowed a token drawn there.")
    return list(lists)
