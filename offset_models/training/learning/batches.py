"""Which rows a step sees: every row once before any comes again, in an order that seed and step alone decide.

Forget rows may be read with unigram noise (Xie et al., "Data Noising as Smoothing", ICLR 2017). Losses are taken along
the reference answer. A served pair reads its own answer, which is another text after the first token that it replaced:
without noise nothing decides what the offset is there, and the forgotten comes up again. So training reads broken
answers too: some tokens are others, from the batch's answers. What is to be predicted at each place, and what the black
box says there, stay those of the whole answer, so that no new call is needed.

An objective that only pushes away unlearns the end token with the rest of an answer, and whatever it says instead goes
on to the longest answer allowed. Behind a token that was read wrong it may be taught to end (`ending_weight`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.objective import Answer
from deltaserve.offset_models.training.rows.scored import Scored

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
    def evaluated(self) -> "TrainingData":
        """With as many of the held-out rows as an evaluation between steps looks at."""
        return replace(self, held_forget=spread(self.held_forget), held_retain=spread(self.held_retain))

    @property
    def digest(self) -> str:
        """sha256 (hex) of ids and logprobs, in order, and of whether rows were held out."""
        parts = [*self.forget.values(), self.retain, self.held_forget, self.held_retain]
        digests = [*map(_digest, parts), *([b"held out"] if self.held_out else [])]
        return hashlib.sha256(b"".join(digests)).hexdigest()


def spread(rows: Sequence[Scored], most: int = MOST_HELD) -> list[Scored]:
    """At most `most` rows, evenly from all."""
    return list(rows[:: -(-len(rows) // most)]) if rows else []


class Shuffle:
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


def noised(rows: Sequence[Scored], share: float, seed: str) -> list[Scored]:
    """The rows with answers that are read broken: of each a share of tokens drawn evenly from 0 to twice `share`."""
    random = Random(seed)
    pool = [token for sample, _ in rows for token in sample.answer_ids]
    return [(replace(sample, read_ids=_broken(sample.answer_ids, pool, share, random)), top) for sample, top in rows]


def _digest(rows: Sequence[Scored]) -> bytes:
    digest = hashlib.sha256()
    for sample, top in rows:
        digest.update(sample.digest)
        if top is not None:
            digest.update(top.ids.tobytes())
            digest.update(top.logprobs.tobytes())
    return digest.digest()


def _broken(answer: Sequence[int], pool: Sequence[int], share: float, random: Random) -> tuple[int, ...]:
    likely = 2 * share * random.random()
    return tuple(random.choice(pool) if random.random() < likely else token for token in answer)
