"""The tokens that the black box lists at one place: what is known of each, and which rows would tell more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from deltaserve.offset_models.bridge.at_once import ROUGH
from deltaserve.offset_models.bridge.known import Known
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.stakes import Stakes, offset_bounds
from deltaserve.server.decoding.protocols import Floats

SLACK: Final = 1e-3  # nats that what goes through a node that is left out may move an offset


@dataclass(slots=True)
class Candidates:
    """All open nodes of the place have their rows."""

    at: Position
    before: Floats  # P(t), [members]
    words: Mapping[int, bytes]  # of the listed ids that are text
    marks: Mapping[int, Floats]  # P(t, and the answer ends) of the ids that end it
    stakes: Stakes | None  # None: all of them matter
    strengths: Sequence[float] = (1.0,)
    slack: float = SLACK
    told: dict[int, Known] = field(init=False)
    _lacking: dict[int, set[Path]] = field(init=False, default_factory=dict)  # the rows that would tell more
    _asked: set[int] = field(init=False, default_factory=set)  # those for which such rows were asked for
    _roughly: set[int] = field(init=False, default_factory=set)  # known with a wider `left` than `slack`

    def __post_init__(self) -> None:
        rough = None if self.stakes is None else ROUGH
        told = {} if rough is None or not self.words else self.at.told_at_once(self.words)
        alone = {i: self.at.told(word, self.slack, rough) for i, word in self.words.items() if i not in told}
        self.told = told | alone
        self._roughly = {token_id for token_id, each in self.told.items() if rough and np.any(each.left)}

    @property
    def exact(self) -> set[int]:
        """Ids of which no row would tell more, once none is wanted."""
        return self.words.keys() - self._lacking.keys() - self._roughly

    def wanted(self) -> set[Path]:
        """The rows to compute next; none where those at hand will do."""
        self._look(self._asked)
        mattering = self._mattering()
        while again := mattering & (self._roughly | self._outdated()):
            self._look(again)
            mattering = self._mattering()
        wanted = {i: self.at.wanted(word, self.told[i], self.slack) for i, word in self.words.items()}
        self._lacking = {i: paths for i, paths in wanted.items() if paths}
        self._asked = mattering & self._lacking.keys()
        return set().union(*(self._lacking[i] for i in self._asked))

    def _outdated(self) -> set[int]:
        """Those of which a row that came for another one tells more."""
        return {i for i, told in self.told.items() if not told.open.keys().isdisjoint(self.at.rows.keys())}

    def _look(self, ids: Iterable[int]) -> None:
        """What is known of these, to within the slack."""
        for token_id in list(ids):
            self.told[token_id] = self.at.told(self.words[token_id], self.slack)
            self._roughly.discard(token_id)

    def _mattering(self) -> set[int]:
        """Those of which more could tell something that matters."""
        if self.stakes is None:
            return set(self.words)
        none = np.zeros_like(self.before)  # of a mark that ends nothing: it has no offset
        ids = self.stakes.ids.tolist()
        told = [self.told.get(i) or Known(self.marks.get(i, none), {}) for i in ids]
        still = self.stakes.open(*offset_bounds(told, self.before, self.strengths))
        return self.words.keys() & {i for i, matters in zip(ids, still, strict=True) if matters}
