"""SGLang's own `/generate`: with `logprob_start_len` it lists the text's positions and takes the rest from its cache.

An entry is a triple (logprob, id, text or null); the first one belongs to the token before the text and is null.
Numbers of prompt positions are raw at any temperature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal
from deltaserve.server.upstream.dialects.sglang import GENERATE, proposal_of
from deltaserve.server.upstream.listing.methods import MethodName, OnePrompt
from deltaserve.server.upstream.topk import TopKRules


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

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        """M's list after token_ids + drafted[:i], i = 0 … m; of the dialect's own box. Raises UpstreamError."""
        box, prompt = self._box, [*token_ids, *drafted]
        temperature = box.temperature_for(params.temperature)
        body = box.request(prompt, temperature, replace(params, max_tokens=1))
        answer = await box.post(body | {"stream": False, "logprob_start_len": len(token_ids) - 1}, GENERATE)
        lists = read_input_logprobs(answer, drafted, box.rules)
        lists.append(self._draw(answer) or await box.shown_again(prompt))
        return Block(box.drawn_at(temperature), lists)

    def _draw(self, answer: Any) -> Proposal | None:
        """What the black box itself drew behind the prompt, where it shows it."""
        try:
            (choice,) = self._box.reader()(answer)["choices"]
            drawn = list(self._box.proposals(choice)) if choice["logprobs"] else []
            return self._box.ending(drawn[0], choice) if drawn else None
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            raise MalformedTopK("The upstream's /generate does not show what it drew as SGLang does.") from None


def read_input_logprobs(answer: Any, text: Sequence[int], rules: TopKRules) -> list[Proposal]:
    """The lists before each id of `text`. Raises MalformedTopK."""
    try:
        meta: Mapping[str, Any] = answer["meta_info"]
        own, lists = meta["input_token_logprobs"][1:], meta["input_top_logprobs"][1:]
        if [entry[1] for entry in own] != list(text):
            raise MalformedTopK("The upstream scored other tokens than those it was sent.")
        return [proposal_of(entry, entries, rules) for entry, entries in zip(own, lists, strict=True)]
    except (KeyError, TypeError, IndexError, ValueError):
        raise MalformedTopK("The upstream's /generate does not list the prompt as SGLang does.") from None
