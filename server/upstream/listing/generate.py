"""SGLang's own `/generate`: with `logprob_start_len` it lists the text's positions and takes the rest from its cache.

An entry is a triple (logprob, id, text or null); the first one belongs to the token before the text and is null.
Numbers of prompt positions are raw at any temperature.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.listing.methods import MethodName, OnePrompt
from deltaserve.server.upstream.topk import TopKRules, check_drawn, checked_proposal

GENERATE: Final = "/generate"


class Generate(OnePrompt):
    """One call, whatever the length."""

    name: ClassVar[MethodName] = "generate"

    async def lists(self, prefix: Sequence[int], text: Sequence[int]) -> list[Proposal]:
        body = {
            "input_ids": [*prefix, *text],
            "sampling_params": {"max_new_tokens": 1, "temperature": 1.0},
            "return_logprob": True,
            "top_logprobs_num": self._box.rules.k,
            "logprob_start_len": len(prefix) - 1,
        }
        return read_input_logprobs(await self._box.post(body, GENERATE), text, self._box.rules)


def read_input_logprobs(answer: Any, text: Sequence[int], rules: TopKRules) -> list[Proposal]:
    """The lists before each id of `text`. Raises MalformedTopK."""
    try:
        meta: Mapping[str, Any] = answer["meta_info"]
        own, lists = meta["input_token_logprobs"][1:], meta["input_top_logprobs"][1:]
        if [entry[1] for entry in own] != list(text):
            raise MalformedTopK("The upstream scored other tokens than those it was sent.")
        return [_proposal(entry, entries, rules) for entry, entries in zip(own, lists, strict=True)]
    except (KeyError, TypeError, IndexError, ValueError):
        raise MalformedTopK("The upstream's /generate does not list the prompt as SGLang does.") from None


def _proposal(own: Sequence[Any], entries: Sequence[Sequence[Any]], rules: TopKRules) -> Proposal:
    """The k best of one position; the text's own token has its log-probability beside them where it is not listed."""
    ranked = sorted(((entry[0], entry[1]) for entry in entries), reverse=True)[: rules.k]
    logprob, token = own[0], own[1]
    ids, logprobs = [i for _, i in ranked], [value for value, _ in ranked]
    proposal = checked_proposal(token, ids, logprobs, rules, None if token in ids else logprob)
    check_drawn(token, ids, logprobs, logprob)
    return proposal
