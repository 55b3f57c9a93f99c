"""A list of texts as a proposal: tokens that their text names are in it, the others are left to the tail.

A text that several ids have says how probable one of them is, and not which. So no id is given that probability: its
mass stays in the tail, under a bound that it cannot exceed. Nothing is guessed, and no certificate is given where such
a token might be the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

import numpy as np

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.text.names import TokenNames
from deltaserve.server.upstream.topk import NO_SUCH_TOKEN, SENTINEL, TopKRules, check_drawn, check_numbers

_NONE: Final = -1  # no id
_LEAST_LEFT: Final = 1e-12  # probability; below it rounding decides what is left


@dataclass(frozen=True, slots=True)
class Entry:
    """One token as it was told."""

    text: str
    logprob: float | None  # None: of a drawn token that has none beside its list
    raw: bytes | None = None  # bytes that came with the text
    token_id: int | None = None  # where its id came too


@dataclass(frozen=True, slots=True)
class Told:
    """One position as it was told."""

    drawn: Entry
    listed: Sequence[Entry]
    is_map: bool = False  # texts were the keys of a map: of several entries with one text all but one are lost


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of a list, and the id that it names; None where it may be several."""

    entry: Entry
    logprob: float
    token_id: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a dialect's lists are to be read."""

    names: TokenNames
    rules: TopKRules
    cuts: bool = False  # a part of a character at a token's end is not shown
    by_draw: bool = False  # the drawn token's name tells which of several an entry is; not of draws by chance
    end: int | None = None  # the best token, as is known otherwise, where it has no text
    spare: int = 0  # entries asked for beside the k best, which the server may have given to the drawn token

    def proposal(self, told: Told) -> Proposal:
        """Of one position; its token is None where the drawn text may be several. Raises MalformedTopK."""
        token_id = self._drawn_id(told.drawn)
        ranked = self._without_extra(told.drawn, self._ranked(told.drawn, token_id, told.listed))
        lossy = told.is_map and any(each.token_id is None for each in ranked)
        self._check(ranked, lossy)
        named = [each for each in ranked if each.logprob > SENTINEL and self._is_known(each.token_id)]
        ids, values = [_id(each) for each in named], [each.logprob for each in named]
        if len(set(ids)) != len(ids):
            raise MalformedTopK("The upstream listed the same token twice.")
        self._check_drawn(told.drawn, token_id, ranked, lossy)
        known = token_id if self._is_known(token_id) else None
        logprobs = np.minimum(np.array(values, np.float64), 0.0)
        return Proposal(known, np.array(ids, np.int64), logprobs, log_cap=_cap(ranked, values, lossy))

    def _drawn_id(self, drawn: Entry) -> int | None:
        """What was drawn is shown whole: a server that cuts off a part of a character waits for the rest of it."""
        return drawn.token_id if drawn.token_id is not None else self.names.named(drawn.text, drawn.raw)

    def _check_drawn(self, drawn: Entry, token_id: int | None, ranked: list[Listed], lossy: bool) -> None:
        """Raises MalformedTopK where its number is not the list's, or it belongs into the list and is not there."""
        if token_id is None or (lossy and self.names.named(drawn.text, drawn.raw) is None):
            return
        ids = [
            token_id if each.token_id is None and _is_told_alike(each.entry, drawn) else _id(each) for each in ranked
        ]
        check_drawn(token_id, ids, [each.logprob for each in ranked], drawn.logprob)

    def _is_known(self, token_id: int | None) -> bool:
        return token_id is not None and token_id < self.rules.vocab_size

    def _ranked(self, drawn: Entry, drawn_id: int | None, listed: Sequence[Entry]) -> list[Listed]:
        """The best first, each with its id."""
        ranked = sorted((Listed(entry, _number(entry), self._id_of(entry)) for entry in listed), key=_logprob)
        if drawn_id is not None and self.by_draw:
            _name_one(ranked, drawn_id, drawn)
        if self.end is not None and ranked and ranked[0].entry.text == "":
            ranked[0] = Listed(ranked[0].entry, ranked[0].logprob, self.end)
        return ranked

    def _id_of(self, entry: Entry) -> int | None:
        if entry.token_id is not None:
            return entry.token_id
        token_id = self.names.named(entry.text, entry.raw)
        return None if self.cuts and self.names.may_be_cut(entry.text) else token_id

    def _without_extra(self, drawn: Entry, ranked: list[Listed]) -> list[Listed]:
        """One more than k is the drawn token, which then is the least probable. Spare entries are not the k best."""
        if self.spare:
            wanted = min(self.rules.k + self.spare, self.rules.padded_size)
            if len(ranked) < wanted:
                raise MalformedTopK(f"The upstream listed {len(ranked)} tokens where {wanted} were asked for.")
            return ranked[: self.rules.k]
        extra = len(ranked) == self.rules.k + 1 and ranked[-1].entry.text == drawn.text
        return ranked[:-1] if extra else ranked

    def _check(self, ranked: list[Listed], lossy: bool) -> None:
        """Raises MalformedTopK where entries are missing, though none could have taken another's place."""
        count, rules = len(ranked), self.rules
        if not 0 < count <= rules.k or (count < rules.least and not lossy):
            raise MalformedTopK(f"The upstream listed {count} tokens where {rules.least} were asked for.")
        if any(each.token_id is not None and not 0 <= each.token_id < rules.padded_size for each in ranked):
            raise MalformedTopK(NO_SUCH_TOKEN)
        check_numbers([each.logprob for each in ranked], None if lossy else rules.padded_size - count)


def _id(each: Listed) -> int:
    return _NONE if each.token_id is None else each.token_id


def _cap(ranked: Sequence[Listed], named: Sequence[float], lossy: bool) -> float | None:
    """What no token outside the list exceeds; None where that is the last one listed."""
    if lossy:
        return log(max(1.0 - sum(map(exp, named)), _LEAST_LEFT))
    unnamed = [each.logprob for each in ranked if each.token_id is None]
    return max(*unnamed, ranked[-1].logprob) if unnamed else None


def _name_one(ranked: list[Listed], token_id: int, drawn: Entry) -> None:
    """Gives the drawn token's id to the only entry without one that is told in the same words."""
    found = [at for at, each in enumerate(ranked) if each.token_id is None and _is_told_alike(each.entry, drawn)]
    if len(found) == 1:
        at = found[0]
        ranked[at] = Listed(ranked[at].entry, ranked[at].logprob, token_id)


def _is_told_alike(entry: Entry, drawn: Entry) -> bool:
    return (entry.text, entry.logprob, entry.raw) == (drawn.text, drawn.logprob, drawn.raw)


def _number(entry: Entry) -> float:
    if type(entry.logprob) not in (float, int):
        raise MalformedTopK("The upstream's top-k holds something that is no number.")
    return float(entry.logprob or 0.0)


def _logprob(each: Listed) -> float:
    return -each.logprob
