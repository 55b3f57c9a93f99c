"""One answer's way through its grammar: which tokens may follow at each place of it.

Positions are decided ahead of what is emitted, and some of them in vain. So places are kept apart from the parser,
which goes back and forth between them.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from deltaserve.errors import BadRequest
from deltaserve.server.decoding.constraints.grammar import Grammar, broken
from deltaserve.server.decoding.protocols import Ids

Bools = NDArray[np.bool_]

_RENEWALS: Final = 3  # parsers of its own that an answer may have
_KEPT: Final = 8  # places whose tokens are remembered: those of a run, not those of an answer


@dataclass(slots=True, eq=False)
class Place:
    """Behind some of an answer's tokens."""

    before: "Place | None" = None
    token_id: int = -1
    depth: int = 0
    _latest: "Place | None" = field(default=None, repr=False)  # so that what is known of a place is found again

    def then(self, token_id: int) -> "Place":
        """The place behind one more token, which must be allowed here."""
        if self._latest is None or self._latest.token_id != token_id:
            self._latest = Place(self, token_id, self.depth + 1)
        return self._latest


@dataclass(frozen=True, eq=False)
class Allowed:
    """G at one place."""

    mask: Bools  # [V of the tokenizer]

    @cached_property
    def count(self) -> int:
        return int(np.count_nonzero(self.mask))

    @cached_property
    def ids(self) -> Ids:
        """Ascending."""
        return np.flatnonzero(self.mask)

    def at(self, ids: Ids) -> Bools:
        """Whether each of `ids` is allowed, shape of `ids`."""
        known = ids < self.mask.size
        if known.all():
            return self.mask[ids]
        allowed = np.zeros(ids.shape, np.bool_)
        allowed[known] = self.mask[ids[known]]
        return allowed

    def wide(self, size: int) -> Bools:
        """The mask for rows of `size` ids: a model may have more rows than its tokenizer has tokens."""
        have = self.mask.size
        return self.mask[:size] if have >= size else np.pad(self.mask, (0, size - have))

    def __contains__(self, token_id: int) -> bool:
        return token_id < self.mask.size and bool(self.mask[token_id])


@dataclass(frozen=True, slots=True, eq=False)
class Follow:
    """What may follow at a place."""

    text: Allowed  # the tokens that go on, without those that end the answer
    accepting: bool  # the answer may end here


class Matcher:
    """Belongs to one answer. All places are behind `start`."""

    def __init__(self, grammar: Grammar) -> None:
        self.start = Place()
        self._grammar = grammar
        self._renewals = _RENEWALS
        self._begin(grammar.parser)
        self._ends = grammar.ends
        self._known: OrderedDict[Place, Follow] = OrderedDict()

    def _begin(self, fresh: LLMatcher) -> None:
        self._fresh = fresh
        self._parser, self._at = fresh.deep_copy(), self.start

    def follow(self, place: Place) -> Follow:
        """Raises BadRequest where the grammar has become too much for the parser. Other places stay what they are."""
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = self._looked(place)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known

    def _looked(self, place: Place) -> Follow:
        """A parser that fails once fails everywhere, and so do those that share with it: the next one shares nothing.

        So neither other answers nor places that were looked at in vain decide whether this one fails.
        """
        try:
            return self._look(place)
        except BadRequest:
            self._grammar.spent = True
            if self._grammar.anew is None or not self._renewals:
                raise
            self._renewals -= 1
            self._begin(self._grammar.anew())
            return self._look(place)

    def _look(self, place: Place) -> Follow:
        self._go(place)
        raw = np.frombuffer(self._parser.compute_bitmask(), np.uint8)
        if self._parser.is_error():
            raise broken(self._parser)
        mask = np.unpackbits(raw, bitorder="little").view(np.bool_)
        mask[self._ends] = False
        return Follow(Allowed(mask), self._parser.is_accepting())

    def _go(self, place: Place) -> None:
        """Bring the parser to this place.

        Back over a token that the grammar names by its id, llguidance 1.9.1 takes off as many bytes as the token's text
        has. It took in fewer, and would stand elsewhere: so the way begins anew.
        """
        back, ahead = [], []
        here: Place | None = self._at
        there: Place | None = place
        while here is not there:
            if there is None or (here is not None and here.depth > there.depth):
                back.append(here.token_id if here else -1)
                here = here.before if here else None
            else:
                ahead.append(there.token_id)
                there = there.before
        if not self._grammar.named.isdisjoint(back):
            self._parser, back, ahead = self._fresh.deep_copy(), [], [*ahead, *_way(here)]
        if (back and not self._parser.rollback(len(back))) or not self._parser.consume_tokens(ahead[::-1]):
            raise broken(self._parser)
        self._at = place


def _way(place: Place | None) -> Iterator[int]:
    """The tokens to a place, the last one first."""
    while place is not None and place.before is not None:
        yield place.token_id
        place = place.before
