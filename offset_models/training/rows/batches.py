"""Which rows a step sees: every row once before any comes again, in an order that seed and step alone decide."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.objective_registry import Answer
from deltaserve.offset_models.training.learning.passes import Scored

MOST_HELD: Final = 256  # rows of each side in one evaluation during training


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Rows with the black box's top-k. Row i of every entry of `forget` is one question with another answer."""

    forget: Mapping[Answer, Sequence[Scored]]
    retain: Sequence[Scored]
    held_forget: Sequence[Scored] = field(default=())  # reference answers, for evaluations
    held_retain: Sequence[Scored] = field(default=())
    held_out: bool = False  # whether no step is trained on these rows

    def __post_init__(self) -> None:
        if not self.retain or not self.forget or len({len(rows) for rows in self.forget.values()} | {0}) != 2:
            raise BadRequest("Training needs forget rows and retain rows.")

    @property
    def glance(self) -> "TrainingData":
        """With as many of the held-out rows as an evaluation between steps looks at."""
        return replace(self, held_forget=spread(self.held_forget), held_retain=spread(self.held_retain))

    @property
    def digest(self) -> str:
        """sha256 (hex) of ids and logprobs, in order, and of whether rows were held out."""
        sides = [*self.forget.values(), self.retain, self.held_forget, self.held_retain]
        digests = [*map(_digest, sides), *([b"held out"] if self.held_out else [])]
        return hashlib.sha256(b"".join(digests)).hexdigest()


def spread(rows: Sequence[Scored], most: int = MOST_HELD) -> list[Scored]:
    """At most `most` rows, evenly from all."""
    return list(rows[:: -(-len(rows) // most)]) if rows else []


class Draw:
    """An endless shuffle. Stateless: a resumed run draws what the killed one would have drawn."""

    def __init__(self, rows: int, batch: int, seed: str) -> None:
        self._rows, self._batch, self._seed = rows, batch, seed
        self._epoch, self._order = -1, list(range(rows))

    def batch(self, number: int) -> list[int]:
        """Row numbers of batch `number`, counted from 0."""
        return [self._at(place) for place in range(number * self._batch, (number + 1) * self._batch)]

    def _at(self, place: int) -> int:
        epoch, within = divmod(place, self._rows)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(range(self._rows))
            Random(f"{self._seed}/{epoch}").shuffle(self._order)
        return self._order[within]


def _digest(rows: Sequence[Scored]) -> bytes:
    digest = hashlib.sha256()
    for sample, top in rows:
        digest.update(sample.digest)
        if top is not None:
            digest.update(top.ids.tobytes())
            digest.update(top.logprobs.tobytes())
    return digest.digest()
