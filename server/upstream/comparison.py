"""Whether two lists belong to one position of one model, and at which temperatures they were told."""

from typing import Final

import numpy as np

from deltaserve.server.decoding.protocols import Floats, Ids, Proposal

SAME_LIST: Final = 0.3  # `difference` of two lists of one position: caches, batches and 4-bit weights add noise


def difference(one: Proposal, other: Proposal) -> float:
    """Total variation over the listed ids, as a share of the listed mass; 1 where nothing is listed."""
    ids = np.union1d(one.top_ids, other.top_ids)
    masses = [_masses(proposal, ids) for proposal in (one, other)]
    largest = max(mass.sum() for mass in masses)
    return float(np.abs(masses[0] - masses[1]).sum() / (2 * largest)) if largest else 1.0


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
