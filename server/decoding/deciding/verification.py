"""Proposal + target → the emitted token, an exact draw from the target.

Speculative sampling (Leviathan et al. 2023; Chen et al. 2023) with the black box as the draft: y is what M drew at
temperature T_d, p̂(i) = exp(ℓ(i)/T_d) / Σ_K exp(ℓ/T_d) is M's draw given that it fell in K, q̃ is the target.
  y ∈ K: accept with probability min(1, q̃(y)/p̂(y)), else draw from max(q̃ − p̂, 0).
  y ∉ K, or M's draw distribution is unknown or a point: draw from q̃.
Where M may hide y the rule holds at no position (`Draft.temperature` is None): those it shows are not drawn as p̂ says.
A local draft is drawn from a known p over the whole vocabulary: the same rule with p in place of p̂.
Where M was held to the answer's grammar its draws fall in G: then K ∩ G is in the place of K.
"""

import numpy as np

from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.protocols import Floats, Ids, Proposal
from deltaserve.server.decoding.sampling import Target


def verify(proposal: Proposal, target: Target, draft_temperature: float | None, noise: Noise, position: int) -> int:
    """The id to emit at `position` (0 is the first emitted token); equal to the proposed one when that is accepted."""
    if target.params.temperature == 0.0:
        return target.best(preferred=proposal.token_id)
    if noise.seeded:
        return _gumbel_draw(target.probs, noise, position)
    if proposal.drawn_from is not None and proposal.token_id is not None:
        return _accept_or_resample(proposal.token_id, target, slice(None), proposal.drawn_from, noise)
    ids, logprobs = _drafted_among(proposal, target)
    if not draft_temperature or proposal.token_id is None or proposal.token_id not in ids:
        return draw(target.probs, noise.uniform())  # the proposal tells nothing about how it was drawn
    draft_probs = _given(logprobs, draft_temperature)
    return _accept_or_resample(proposal.token_id, target, ids, draft_probs, noise)


def _drafted_among(proposal: Proposal, target: Target) -> tuple[Ids, Floats]:
    """The listed ids that M may have drawn, and their ℓ."""
    ids, logprobs = proposal.top_ids, proposal.top_logprobs
    if not proposal.held or target.allowed is None:
        return ids, logprobs
    allowed = target.allowed.at(ids)
    return ids[allowed], logprobs[allowed]


def listed_probs(proposal: Proposal, temperature: float) -> Floats:
    """p̂ on K, shape [k]: how M draws at this temperature, given that the draw falls in K. K must not be empty."""
    return _given(proposal.top_logprobs, temperature)


def _given(logprobs: Floats, temperature: float) -> Floats:
    """What a draw at this temperature is, given that it is one of these, the most probable first; shape [k]."""
    weights = np.exp((logprobs - logprobs[0]) / temperature)
    probs: Floats = weights / weights.sum()
    return probs


def _accept_or_resample(token_id: int, target: Target, support: Ids | slice, draft_probs: Floats, noise: Noise) -> int:
    """Accept with min(1, q̃/p̂), else resample. `draft_probs` is p̂ at the ids of `support` and 0 elsewhere."""
    at = token_id if isinstance(support, slice) else np.flatnonzero(support == token_id)[0]
    least = noise.uniform() * float(draft_probs[at])
    if least < target.prob_floor(token_id) or least < target.prob(token_id):
        return token_id
    residual = target.probs.copy()
    residual[support] -= draft_probs
    np.maximum(residual, 0.0, out=residual)
    # Nothing left can only be rounding: then p̂ and q̃ agree and any draw from q̃ is right.
    return draw(residual if residual.any() else target.probs, noise.uniform())


def draw(weights: Floats, uniform: float) -> int:
    """An id drawn in proportion to `weights` [V] ≥ 0 with `uniform` in [0, 1)."""
    mass = np.cumsum(weights)
    at = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return at if at < mass.size else int(np.flatnonzero(weights)[-1])


def _gumbel_draw(probs: Floats, noise: Noise, position: int) -> int:
    """argmax_i (log q̃(i) + G(i))."""
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(probs) + noise.gumbel(position, probs.size)))
