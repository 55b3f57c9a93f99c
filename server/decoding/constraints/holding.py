"""An answer held to its constraint, token by token: free before the constraint begins, then within the grammar."""

from collections.abc import Collection
from copy import copy
from typing import Final

import numpy as np

from deltaserve.errors import BadRequest
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.grammar import Grammar
from deltaserve.server.decoding.constraints.matching import Allowed, Matcher, Place
from deltaserve.server.decoding.protocols import NO_IDS

_NONE: Final = Allowed(np.zeros(0, np.bool_))


class Held:
    """Forks share the parser, not their place."""

    def __init__(self, constraint: Constraint, grammar: Grammar) -> None:
        self._after = constraint.after
        self._latest: tuple[int, ...] = ()  # as many of the answer's latest tokens as `after` has, before it begins
        self._matcher = Matcher(grammar)
        self._opens = constraint.opens if constraint.after else None  # may be the first token
        free = bool(constraint.after) and self._opens is None
        self._place: Place | None = None if free else self._matcher.start  # None: not yet begun, or over
        self.void = False  # the answer is over, or a token was added that is not allowed: nothing follows it
        self._said: tuple[Place, frozenset[int], Allowed] | None = None  # what `allowed` said last

    def fork(self) -> "Held":
        return copy(self)

    @property
    def begun(self) -> bool:
        """Whether the grammar decides what may follow."""
        return self._place is not None

    @property
    def waiting(self) -> bool:
        """Whether the grammar has yet to begin."""
        return self._place is None and bool(self._after)

    def add(self, token_id: int, ends: Collection[int]) -> None:
        """Go on behind this token; `ends` are the ids that end an answer, which no grammar has a place behind."""
        place, opens, self._opens = self._place, self._opens, None
        if place is None:
            self._wait(token_id)
        elif token_id == opens:
            self._place = None
        elif token_id not in ends and self._goes_on(place, token_id):
            self._place, self._after = place.then(token_id), ()
        else:
            self._place, self._after, self.void = None, (), True

    def _goes_on(self, place: Place, token_id: int) -> bool:
        try:
            return token_id in self._matcher.follow(place).text
        except BadRequest:
            return False

    def _wait(self, token_id: int) -> None:
        if not self._after:
            return
        self._latest = (*self._latest, token_id)[-len(self._after) :]
        if self._latest == self._after:
            self._place = self._matcher.start

    def allowed(self, ends: frozenset[int], last: frozenset[int]) -> Allowed:
        """G here: what goes on or opens the answer, and `ends` where it may end; `last` where it must and has none."""
        place = self._place
        if place is None:
            return _NONE  # nothing, where the answer is over or was left
        follow = self._matcher.follow(place)
        if not follow.accepting:
            ends = frozenset()
        elif not ends and not follow.text.count:
            ends = last
        if self._opens is not None:
            ends |= {self._opens}
        elif not follow.accepting:
            return follow.text
        if self._said is None or self._said[0] is not place or self._said[1] != ends:
            self._said = (place, ends, _with(follow.text, ends))
        return self._said[2]

    @property
    def complete(self) -> bool:
        """Whether the grammar accepts and nothing can follow but the end."""
        if self._place is None or self._opens is not None:
            return False
        follow = self._matcher.follow(self._place)
        return follow.accepting and follow.text.count == 0


def _with(allowed: Allowed, ends: frozenset[int]) -> Allowed:
    ids = np.fromiter(ends, np.int64, len(ends)) if ends else NO_IDS
    mask = allowed.mask.copy() if not ids.size or ids.max() < allowed.mask.size else allowed.wide(int(ids.max()) + 1)
    mask[ids] = True
    return Allowed(mask)
