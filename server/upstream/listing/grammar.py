"""llama.cpp made to say a given text by a grammar of its ids: one call tells the list before each of them.

`root ::= <[40]> <[2776]>` allows the answer 40, 2776 and nothing else. The grammar only changes what is drawn: the
lists are those of single steps. Three things limit it:

- A grammar allows an id that ends answers only behind itself, where it is drawn freely. So such an id is no part of a
  grammar; its list is that of the free draw.
- A token that cuts a character is refused wherever it stands. It is treated alike.
- An id that begins a text and cannot be forced needs no grammar: it is a single step.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.call_draft import CompletionDraft
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.listing.methods import MethodName, OnePrompt, complete
from deltaserve.server.upstream.listing.steps import Steps
from deltaserve.server.upstream.topk import is_text

OTHER_TOKENS = "The upstream does not say the tokens that its grammar allows."


class Grammar(OnePrompt):
    """One call for a text and the end behind it; one more for each id inside the text that no grammar may hold."""

    name: ClassVar[MethodName] = "grammar"

    async def lists(self, prefix: Sequence[int], text: Sequence[int]) -> list[Proposal]:
        lists: list[Proposal] = []
        for start, stop in pairwise(self._cuts(text)):
            lists += await self._part([*prefix, *text[:start]], text[start:stop])
        return complete(lists)

    def cost(self, prefix: int, text: int) -> Cost:
        return Cost(1, prefix, text)

    def _cuts(self, text: Sequence[int]) -> Iterator[int]:
        """Where parts begin and end: only the last id of a part may be one that no grammar may hold."""
        yield 0
        yield from (at for at, token_id in enumerate(text[:-1], 1) if not self._forcible(token_id))
        yield len(text)

    async def _part(self, prefix: list[int], ids: Sequence[int]) -> list[Proposal]:
        forced = list(ids) if self._forcible(ids[-1]) else list(ids[:-1])
        if not forced:
            return await Steps(self._box).lists(prefix, ids)
        body = self._box.request(prefix, 0.0, DraftParams(0.0, len(ids))) | {"grammar": grammar_of(forced)}
        async with self._box.opened(body) as events:
            draft = CompletionDraft(self._box, events, prefix, 0.0, len(ids), recover=False)
            lists = [proposal async for proposal in draft]
        if len(lists) != len(ids) or [proposal.token_id for proposal in lists[: len(forced)]] != forced:
            raise MalformedTopK(OTHER_TOKENS)
        return lists

    def _forcible(self, token_id: int) -> bool:
        tokenizer = self._box.tokenizer
        return token_id not in tokenizer.added_ids and is_text(tokenizer.token_bytes(token_id))


def grammar_of(ids: Sequence[int]) -> str:
    """A GBNF grammar whose only text is these ids."""
    return "root ::= " + " ".join(f"<[{token_id}]>" for token_id in ids)
