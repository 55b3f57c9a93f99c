"""What a correction did at one position, for those who may see what the black box would have said."""

from dataclasses import dataclass

import numpy as np

from deltaserve.server.decoding.correction import Corrected
from deltaserve.server.decoding.protocols import Floats, Ids
from deltaserve.server.decoding.ranking import most_probable
from deltaserve.server.decoding.rows import log_sum_exp


@dataclass(frozen=True, slots=True)
class Explanation:
    """Before and after at one position. `before` is log p_M where M listed the id, log p̂_M (imputed) elsewhere."""

    kl_nats: float  # KL(after ‖ before)
    ids: Ids  # [n] candidates: the likeliest before and the likeliest after, most probable after first
    before: Floats  # [n] nats
    offset: Floats  # [n] nats
    after: Floats  # [n] nats, log q


def explain(corrected: Corrected, n: int) -> Explanation:
    """Explanation with the `n` likeliest ids of either side. Moves a whole row."""
    after_ids, _ = most_probable(corrected, n)
    ids = np.concatenate((after_ids, np.setdiff1d(corrected.ids[: min(n, corrected.k)], after_ids)))
    offset = corrected.row.offset(ids)
    after = corrected.dense()[ids] - corrected.log_z
    return Explanation(kl_after_before(corrected), ids, _before(corrected, ids), offset, after)


def kl_after_before(corrected: Corrected) -> float:
    """KL(q ‖ p̂_M) in nats over the whole vocabulary, p̂_M normalised."""
    weights = corrected.dense()
    after = weights - corrected.log_z
    probs = np.exp(after)
    known = probs > 0.0
    every = np.arange(weights.size)
    before = _before(corrected, every)
    before -= log_sum_exp(before)
    return max(0.0, float((probs[known] * (after[known] - before[known])).sum()))


def _before(corrected: Corrected, ids: Ids) -> Floats:
    """log p_M on K, log p̂_M elsewhere; shape of `ids`."""
    dense = np.full(corrected.row.vocab_size, -np.inf)
    dense[ids] = corrected.imputed(ids)
    dense[corrected.ids] = corrected.log_black_box
    before: Floats = dense[ids]
    return before
