"""SGLang's own `/generate`: with `logprob_start_len` it lists the answer's positions and takes the rest from its cache.

An entry is a triple (logprob, id, text or null); the first one belongs to the token before the answer and is null.
Numbers of prompt positions are raw at any temperature.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.methods import Cost, MethodName
from deltaserve.server.upstream.topk import TopKRules, checked_proposal

GENERATE: Final = "/generate"


class Generate:
    """One call, whatever the length."""

    name: ClassVar[MethodName] = "generate"
    span: ClassVar[int | None] = None

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    async def lists(self, prefix: Sequence[int], answer: Sequence[int]) -> list[Proposal]:
        body = {
            "input_ids": [*prefix, *answer],
            "sampling_params": {"max_new_tokens": 1, "temperature": 1.0},
            "return_logprob": True,
            "top_logprobs_num": self._box.rules.k,
            "logprob_start_len": len(prefix) - 1,
            "stream": False,
        }
        return read_input_logprobs(await self._box.native(GENERATE, body), answer, self._box.rules)

    def cost(self, prefix: int, answer: int) -> Cost:
        return Cost(1, prefix + answer, 1)


def read_input_logprobs(told: Any, answer: Sequence[int], rules: TopKRules) -> list[Proposal]:
    """The lists before each id of `answer`. Raises MalformedTopK."""
    try:
        meta: Mapping[str, Any] = told["meta_info"]
        tokens = [entry[1] for entry in meta["input_token_logprobs"]][1:]
        lists = meta["input_top_logprobs"][1:]
        if tokens != list(answer):
            raise MalformedTopK("The upstream scored other tokens than those it was sent.")
        return [_proposal(token, entries, rules) for token, entries in zip(answer, lists, strict=True)]
    except (KeyError, TypeError, IndexError, ValueError):
        raise MalformedTopK("The upstream's /generate does not list the prompt as SGLang does.") from None


def _proposal(token: int, entries: Sequence[Sequence[Any]], rules: TopKRules) -> Proposal:
    ranked = sorted(((entry[0], entry[1]) for entry in entries), reverse=True)[: rules.k]
    return checked_proposal(token, [i for _, i in ranked], [logprob for logprob, _ in ranked], rules)
