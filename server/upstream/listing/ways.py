"""M's lists along a text that is already there, for training: the cheapest way that a black box offers and that holds.

A `Method` is one way to ask. Those that score a whole text in one call are vLLM's `prompt_logprobs`, SGLang's
`generate` and `echo`; without them the text is forced on the black box: each position is a prompt with max_tokens 1,
many in one call or one by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.sglang import Generate
from deltaserve.server.upstream.listing.methods import Cost, MethodName
from deltaserve.server.upstream.topk import TopKRules, ranked_proposal

_ONE_TOKEN: Final = DraftParams(0.0, 1)


class Method(Protocol):
    """One way to ask. A call tells the lists of at most `span` positions; None: of all of them."""

    name: ClassVar[MethodName]
    span: ClassVar[int | None]

    async def lists(self, prefix: Sequence[int], answer: Sequence[int]) -> list[Proposal]:
        """M's top-k before each id of `answer`, in one call. Raises UpstreamError; a partial answer is none."""

    def cost(self, prefix: int, answer: int) -> Cost:
        """Of that call, for so many ids."""


class PromptLogprobs:
    """vLLM's `prompt_logprobs`: one call, whatever the length."""

    name: ClassVar[MethodName] = "prompt_logprobs"
    span: ClassVar[int | None] = None

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    async def lists(self, prefix: Sequence[int], answer: Sequence[int]) -> list[Proposal]:
        body = self._box.request([*prefix, *answer], 0.0, _ONE_TOKEN)
        del body["logprobs"]
        choice = await _only_choice(self._box, body | {"prompt_logprobs": self._box.rules.k})
        return read_prompt_logprobs(choice, prefix, answer, self._box.rules)

    def cost(self, prefix: int, answer: int) -> Cost:
        return Cost(1, prefix + answer, 1)


class Echo:
    """`echo` with `logprobs`: the answer begins with the prompt, its lists included."""

    name: ClassVar[MethodName] = "echo"
    span: ClassVar[int | None] = None

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    async def lists(self, prefix: Sequence[int], answer: Sequence[int]) -> list[Proposal]:
        # One token is generated because not every server takes 0; its list stands behind those that are read.
        body = self._box.request([*prefix, *answer], 0.0, _ONE_TOKEN) | {"echo": True}
        choice = await _only_choice(self._box, body)
        try:
            shown = {"logprobs": _cut(choice["logprobs"], len(prefix), len(answer))}
            found = list(self._box.proposals(shown))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            raise MalformedTopK("The upstream does not echo the prompt with its log-probabilities.") from None
        if [proposal.token_id for proposal in found] != list(answer):
            raise MalformedTopK("The upstream echoes other tokens than those it was sent.")
        return found

    def cost(self, prefix: int, answer: int) -> Cost:
        return Cost(1, prefix + answer, 1)


class PromptList:
    """A list of prompts with max_tokens 1, one for each position (`blocks.py`)."""

    name: ClassVar[MethodName] = "prompt_list"
    span: ClassVar[int | None] = 16

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    async def lists(self, prefix: Sequence[int], answer: Sequence[int]) -> list[Proposal]:
        block = await self._box.block(prefix, answer[:-1], _ONE_TOKEN)
        return [_known(proposal) for proposal in block.proposals]

    def cost(self, prefix: int, answer: int) -> Cost:
        return Cost(1, answer * prefix + answer * (answer - 1) // 2, answer)


class Steps:
    """One prompt at a time with max_tokens 1, in order, so that each finds the one before in the prefix cache."""

    name: ClassVar[MethodName] = "steps"
    span: ClassVar[int | None] = 1

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    async def lists(self, prefix: Sequence[int], answer: Sequence[int]) -> list[Proposal]:
        (_,) = answer
        async with self._box.draft(prefix, _ONE_TOKEN) as draft:
            async for proposal in draft:
                return [_known(proposal)]
        raise MalformedTopK("The upstream listed no tokens at a position.")

    def cost(self, prefix: int, answer: int) -> Cost:
        return Cost(1, prefix, answer)


def method_of(name: MethodName, box: CompletionsBox) -> Method:
    """The named way to ask this black box."""
    kinds = {kind.name: kind for kind in (PromptLogprobs, Generate, Echo, PromptList, Steps)}
    return kinds[name](box)


def spans(method: Method, answer: int) -> list[tuple[int, int]]:
    """The calls that `answer` positions take, as (start, stop)."""
    span = method.span or answer
    return [(start, min(start + span, answer)) for start in range(0, answer, span)]


def read_prompt_logprobs(
    choice: Mapping[str, Any], prefix: Sequence[int], answer: Sequence[int], rules: TopKRules
) -> list[Proposal]:
    """vLLM's list of {id: {logprob, rank}} (null first) as the lists before each id of `answer`."""
    positions = choice.get("prompt_logprobs")
    if not isinstance(positions, list) or len(positions) != len(prefix) + len(answer):
        raise MalformedTopK("The upstream gave no prompt log-probabilities for every position of the prompt.")
    try:
        told = zip(answer, positions[len(prefix) :], strict=True)
        return [_ranked(token, position, rules) for token, position in told]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise MalformedTopK("The upstream's prompt log-probabilities do not have the shape of vLLM's.") from None


def _ranked(token: int, position: Mapping[str, Mapping[str, Any]], rules: TopKRules) -> Proposal:
    """The k best of one position; vLLM adds the prompt's own token when it is not among them."""
    if str(token) not in position:
        raise MalformedTopK("The upstream scored other tokens than those it was sent.")
    if len(position) <= rules.k < position[str(token)]["rank"]:
        raise MalformedTopK("The upstream listed fewer tokens than were asked for.")
    ranked = sorted((entry["rank"], int(i), entry["logprob"]) for i, entry in position.items())
    return ranked_proposal(token, [i for _, i, _ in ranked], [logprob for *_, logprob in ranked], rules)


def _cut(logprobs: dict[str, Any], start: int, count: int) -> dict[str, Any]:
    columns = ("content",) if logprobs.get("content") is not None else ("tokens", "top_logprobs")
    return {name: logprobs[name][start : start + count] for name in columns}


async def _only_choice(box: CompletionsBox, body: dict[str, Any]) -> dict[str, Any]:
    answer = await box.whole(body)
    try:
        (choice,) = answer["choices"]
    except (KeyError, TypeError, ValueError):
        raise MalformedTopK("The upstream's answer does not have the shape of its dialect.") from None
    if not isinstance(choice, dict):
        raise MalformedTopK("The upstream's answer does not have the shape of its dialect.")
    return choice


def _known(proposal: Proposal) -> Proposal:
    if not proposal.top_ids.size:
        raise MalformedTopK(
            "The upstream does not show what it lists at a position: it swallowed the token drawn there."
        )
    return proposal
