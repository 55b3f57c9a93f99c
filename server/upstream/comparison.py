"""Whether two lists belong to one position of one model, and at which temperatures they were told."""

from typing import Final

import numpy as np

from deltaserve.server.decoding.protocols import Floats, Ids, Proposal

SAME_LIST: Final = 0.3  # `difference` of two lists of one position: caches, batches and 4-bit weights add noise


def difference(one: Proposal, other: Proposal) -> float:
    """Total variation over the listed ids, as a share of what both list; an unlisted id counts as 0.

    0 for the same list, 1 for lists that have nothing in common or are empty.
    """
    ids = np.union1d(one.top_ids, other.top_ids)
    masses, others = (_masses(proposal, ids) for proposal in (one, other))
    listed = masses.sum() + others.sum()
    return float(np.abs(masses - others).sum() / listed) if listed else 1.0


def slope(base: Proposal, other: Proposal) -> float | None:
    """Least-squares slope of `other` against `base` over the ids in both; None when they say too little."""
    _, at_base, at_other = np.intersect1d(base.top_ids, other.top_ids, assume_unique=True, return_indices=True)
    if not at_base.size:
        return None
    x, y = base.top_logprobs[at_base], other.top_logprobs[at_other]
    x = x - x.mean()
    spread = float(x @ x)
    return float(x @ (y - y.mean())) / spread if spread > 1e-3 else None


def _masses(proposal: Proposal, ids: Ids) -> Floats:
    """Probabilities at sorted `ids` [n]; 0 where not listed."""
    masses = np.zeros(len(ids))
    masses[np.searchsorted(ids, proposal.top_ids)] = np.exp(proposal.top_logprobs)
    return masses
