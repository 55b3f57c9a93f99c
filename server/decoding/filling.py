"""Water-filling: the scale at which a tail of capped probabilities holds the mass that it must hold.

p̂_M(i) = min(s·p_o(i), cap), with s such that Σ_i p̂_M(i) = r: what the cap cuts off goes to the ids below it.
"""

import math

import numpy as np

from deltaserve.server.decoding.protocols import Floats

# A probability that is left by a difference and is below this is rounding: it must not be lifted into a tail.
ROUNDING = 1e-12


def log_fill_scale(heaviest: Floats, log_rest: float, mass: float, log_cap: float) -> float:
    """log s of a tail of which the largest log p_o and the sum of all others are known.

    `heaviest` [n] nats, descending; `log_rest` the log of Σ p_o over the others, which are taken to stay below the cap:
    where s lifts them to it, ask again with more of them among `heaviest`. +inf where all ids at the cap hold less
    than `mass`, a probability.
    """
    # Σ p_o of what stays below the cap when the m heaviest are at it, and the mass that is left for it; m = 0 … n.
    below = np.logaddexp.accumulate(np.append(heaviest, log_rest)[::-1])[::-1]
    left = mass - np.arange(below.size) * math.exp(log_cap)
    left[left < ROUNDING] = 0.0
    with np.errstate(divide="ignore"):
        log_left = np.log(left)
    fits = np.flatnonzero(log_left[:-1] - below[:-1] + heaviest <= log_cap)
    at_cap = int(fits[0]) if fits.size else heaviest.size
    if below[at_cap] == -math.inf:
        return math.inf
    least = log_cap - float(heaviest[at_cap - 1]) if at_cap else -math.inf  # rounding takes nobody off the cap again
    return max(float(log_left[at_cap] - below[at_cap]), least)
