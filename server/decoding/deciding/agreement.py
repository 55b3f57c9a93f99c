"""Chances that a draft is accepted at a position, whether its source was used or not."""

import numpy as np

from deltaserve.server.decoding.deciding.verification import listed_probs
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.sampling import Target


def local_agreement(target: Target, blind: Target, seeded: bool) -> float:
    """Chance that a local draft is accepted here; `blind` is the target that the pair alone gives."""
    if target.params.temperature == 0.0:
        return float(blind.best() == target.best())
    overlap = float(np.minimum(target.probs, blind.probs).sum())
    return overlap / (2.0 - overlap) if seeded else overlap  # of two Gumbel draws with common noise: a lower bound


def upstream_agreement(
    target: Target, proposal: Proposal, emitted: int, seeded: bool, *, guessed: bool = False, roughly: bool = False
) -> float:
    """Chance that the black box's own draw is accepted here, taken at its own temperature of 1 where that matters.

    `guessed`: it is kept where a draw of our own is the same, not by the rule for draws. `roughly`: the tail may be
    taken as it is imputed, where nothing else needs a look through the row.
    """
    if not proposal.top_ids.size:
        return 0.0
    if target.params.temperature == 0.0:
        return float(int(proposal.top_ids[0]) == emitted)
    draft_probs = listed_probs(proposal, target.params.temperature)
    if seeded:
        return float(draft_probs[proposal.top_ids == emitted].sum())
    target_probs = target.listed_probs(proposal.top_ids, roughly=roughly)
    return float((target_probs * draft_probs).sum() if guessed else np.minimum(target_probs, draft_probs).sum())
