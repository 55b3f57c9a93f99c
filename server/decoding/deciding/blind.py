"""What the pair alone would say: the target where the black box tells nothing.

K is empty: p_o^{1−α}·p_u^α with the request's own penalties, temperature and filters.
"""

import math
from typing import Final

import numpy as np

from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, OffsetRow, Proposal
from deltaserve.server.decoding.sampling import Target, target

UNKNOWN: Final = Proposal(None, NO_IDS, NO_FLOATS)
STRONG_NATS: Final = math.log(2.0)  # the offset at least doubles what the pair itself would say (docs/experiments.md)
LIKELY_NATS: Final = math.log(0.5)  # and the unlearned model is more sure of it than of all else together


def blind_target(row: OffsetRow, params: SamplingParams, history: History, guard: Guard | None) -> Target:
    """q̃ as the pair alone sees it."""
    return target(correct(UNKNOWN, row, extra_ids=history.touched()), params, history, guard)


def expected_token(row: OffsetRow, blind: Target) -> int | None:
    """The token that the pair alone chooses, where its offset is strong; None where the black box may be right."""
    guess = blind.best()
    at = np.array([guess])
    offset, unlearned = row.offset(at)[0], row.offset(at)[0] + row.base(at)[0]
    strong = offset >= STRONG_NATS and unlearned >= LIKELY_NATS
    return guess if strong and guess not in blind.params.final_ids else None
