"""The black box's list at every position of a text that somebody else wrote: one call, a prompt per position.

The prompts are prefix, prefix + d₁, prefix + d₁d₂, …; each asks for one token with its top-k. The upstream's prefix
cache makes all but the first nearly free; no prompt log-probabilities are needed, which bypass that cache.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from deltaserve.errors import MalformedTopK, UpstreamUnreachable
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.refusals import error_from, error_of
from deltaserve.server.upstream.http.strict_json import parsed
from deltaserve.server.upstream.http.transport import EventStream
from deltaserve.server.upstream.ledger import BROKEN_OFF, WITHOUT_LIST
from deltaserve.server.upstream.listing.methods import ONE_TOKEN, MethodName, complete

POSITIONS: Final = 32  # prompts in one list: each repeats its whole prefix


class PromptList:
    """A list of prompts with max_tokens 1."""

    name: ClassVar[MethodName] = "prompt_list"
    span: ClassVar[int | None] = POSITIONS

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    async def lists(self, prefix: Sequence[int], text: Sequence[int]) -> list[Proposal]:
        return complete((await self.block(prefix, text[:-1], ONE_TOKEN)).proposals)

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        """M's list after token_ids + drafted[:i], i = 0 … m. Raises UpstreamError; a partial answer is none."""
        box, temperature = self._box, self._box.temperature_for(params.temperature)
        prompts = [[*token_ids, *drafted[:i]] for i in range(len(drafted) + 1)]
        body = box.request(prompts[0], temperature, params) | {"prompt": prompts, "max_tokens": 1}
        answer = _Answer(box, len(prompts))
        async with box.opened(body) as events:
            while await events.wait():
                while events.arrived:
                    answer.read(events, events.arrived.popleft())
        lists = [await self._list(prompt, draw) for prompt, draw in zip(prompts, answer.draws, strict=True)]
        return Block(box.drawn_at(temperature), lists, sum(map(len, prompts)), len(prompts))

    def cost(self, prefix: int, text: int) -> Cost:
        return Cost(1, text * prefix + text * (text - 1) // 2, text)

    async def _list(self, prompt: list[int], draw: Proposal | None) -> Proposal:
        """Of one position; asked for once more where the upstream swallowed it."""
        return draw if draw is not None and draw.top_ids.size else await self._box.shown_again(prompt)


class _Answer:
    """What the black box drew after each of `count` prompts, from events in any order."""

    def __init__(self, box: CompletionsBox, count: int) -> None:
        self.draws: list[Proposal | None] = [None] * count
        self._box = box

    def read(self, events: EventStream, payload: bytes) -> None:
        if payload == b"[DONE]":
            events.finish()
            return
        try:
            chunk = parsed(payload)
            if chunk is None:  # llama.cpp sends `data: null` for each prompt of a list that waits for a slot
                return
            if "choices" not in chunk or chunk.get("error"):
                raise error_from(200, error_of(chunk) or {})
            for choice in chunk["choices"]:
                self._take(choice)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            raise MalformedTopK("The upstream's answer does not have the shape of its dialect.") from None

    def _take(self, choice: dict[str, Any]) -> None:
        if choice.get("finish_reason") in BROKEN_OFF:
            raise UpstreamUnreachable("The upstream broke off its answer.")
        index, drawn = choice["index"], list(self._box.proposals(choice)) if choice.get("logprobs") else []
        if type(index) is not int or not 0 <= index < len(self.draws):
            raise MalformedTopK("The upstream answered a prompt that it was not sent.")
        if not drawn and choice.get("text") and self._box.hidden_draws != "some":
            raise MalformedTopK(WITHOUT_LIST)
        if len(drawn) + (self.draws[index] is not None) > 1:
            raise MalformedTopK("The upstream drew more than the one token that was asked for.")
        if drawn:
            self.draws[index] = self._box.ending(drawn[0], choice)
