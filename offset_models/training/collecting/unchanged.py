"""Checks that the black box still gives the lists that a folder holds, by fetching a few of them again.

A server names its model, not its weights; a hosted service may exchange them under one name without notice.
With lists of both in one folder the pair would be trained against neither.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Final

import numpy as np

from deltaserve.errors import Conflict
from deltaserve.offset_models.training.collecting.source import Scores
from deltaserve.offset_models.training.rows.scored import Listed, TopK
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.comparison import difference

ASKED: Final = 3  # samples
# Of the listed probability, on average. Batches and prefix caches compute one text in several ways, but stay below.
MOST_APART: Final = 0.1


def sample_again(known: Sequence[Listed]) -> list[Listed]:
    """At most `ASKED` of them, evenly from all."""
    count = min(ASKED, len(known))
    return [known[(2 * i + 1) * len(known) // (2 * count)] for i in range(count)]


async def check_unchanged(known: Sequence[Listed], scorer: Scores) -> None:
    """Fetch the lists of these samples once more. Raises Conflict when they have changed, UpstreamError."""
    moved = [fmean(apart(was, await scorer.top_k(sample))) for sample, was in known]
    if moved and max(moved) > MOST_APART:  # of each by itself: a long answer would hide what became of a short one
        raise Conflict(
            f"The black box does not say what it said when this folder was collected: of the probability that it "
            f"lists, {max(moved):.0%} has moved. It has other weights or settings under the same name: give "
            "another --out. What is there was kept."
        )


def apart(was: TopK, now: TopK) -> Iterator[float]:
    """At each position: how far two lists are apart, from 0 to 1."""
    for before, after in zip(_lists(was), _lists(now), strict=True):
        yield difference(before, after)


def _lists(top: TopK) -> Iterator[Proposal]:
    for ids, logprobs in zip(top.ids, top.logprobs, strict=True):
        yield Proposal(None, ids, logprobs.astype(np.float64))
