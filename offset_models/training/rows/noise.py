"""Unigram noise on what the pair reads of forget rows (Xie et al., "Data Noising as Smoothing", ICLR 2017).

Losses are taken along the reference answer. Served, the pair reads what it has said itself, and after the first token
that it replaced this is another text: there the offset is what training happened to leave, and the forgotten comes up
again. So training reads broken answers too: some tokens are others, from the batch's answers. What is to be predicted
at each place, and what the black box says there, stay those of the whole answer: nobody is asked again.

An objective that only pushes away unlearns the end token with the rest of an answer, and whatever it says instead goes
on to the longest answer allowed. Behind a token that was read wrong it may be taught to end (`ending_weight`).
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from deltaserve.offset_models.training.learning.distribution import Positions
from deltaserve.offset_models.training.learning.passes import Scored


def noised(rows: Sequence[Scored], share: float, seed: str) -> list[Scored]:
    """The rows with answers that are read broken: of each a share of tokens drawn evenly from 0 to twice `share`."""
    random = Random(seed)
    pool = [token for sample, _ in rows for token in sample.answer_ids]
    return [(replace(sample, read_ids=_broken(sample.answer_ids, pool, share, random)), top) for sample, top in rows]


def without_ends(batch: Positions, end_id: int) -> tuple[Positions, Positions]:
    """What is to be pushed away: all but the end of broken answers. And where to end: behind what was read wrong.

    Only answers that end at all are to do so earlier: running text that goes on is not.
    """
    ends = batch.targets == end_id
    ending = (batch.per_sequence(ends.to(batch.log_u.dtype)) > 0)[batch.sequences]
    return batch.only(~(batch.parted & ends)), batch.only(batch.parted & ending)


def _broken(answer: Sequence[int], pool: Sequence[int], share: float, random: Random) -> tuple[int, ...]:
    likely = 2 * share * random.random()
    return tuple(random.choice(pool) if random.random() < likely else token for token in answer)
