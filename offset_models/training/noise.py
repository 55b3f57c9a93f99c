"""Unigram noise on what the pair reads of forget rows (Xie et al., "Data Noising as Smoothing", ICLR 2017).

Losses are taken along the reference answer. Served, the pair reads what it has said itself, and after the first token
that it replaced this is another text: there the offset is what training happened to leave, and the forgotten comes up
again. So training reads broken answers too: some tokens are others, from the batch's answers. What is to be predicted
at each place, and what the black box says there, stay those of the whole answer: nobody is asked again.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from offset_models.training.passes import Scored


def noised(rows: Sequence[Scored], share: float, seed: str) -> list[Scored]:
    """The rows with answers that are read broken: of each a share of tokens drawn evenly from 0 to twice `share`."""
    random = Random(seed)
    pool = [token for sample, _ in rows for token in sample.answer_ids]
    return [(replace(sample, read_ids=_broken(sample.answer_ids, pool, share, random)), top) for sample, top in rows]


def _broken(answer: Sequence[int], pool: Sequence[int], share: float, random: Random) -> tuple[int, ...]:
    likely = 2 * share * random.random()
    return tuple(random.choice(pool) if random.random() < likely else token for token in answer)
