"""Guards: where the correction is large, the target may be narrower than the client asked for.

Sampling says now and then what a greedy answer never does: a forgotten answer keeps a little of its mass. A guard
acts on the steps with KL(after ‖ before) above a bound and on no other. It changes the target itself, so that whatever
is drawn is still an exact draw from what the server says it serves (`system_fingerprint` names the guard).
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deltaserve.server.decoding.correction import Corrected
from deltaserve.server.decoding.explanation import kl_after_before

if TYPE_CHECKING:
    from deltaserve.server.decoding.sampling import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What an operator set. It costs passes over the vocabulary at each step where it may matter, none elsewhere."""

    kl_nats: float  # acts where KL(after ‖ before) is above this
    min_p: float = 0.0  # least min_p of such a step
    temperature: float = math.inf  # highest temperature of such a step; 0: greedy
    unbiased: bool = False  # such a step heeds no logit_bias and no penalty

    def acts(self, corrected: Corrected, params: "SamplingParams") -> bool:
        """Whether this step is narrowed."""
        matters = params.temperature > 0.0 or (self.unbiased and params.biased)
        return matters and kl_after_before(corrected) > self.kl_nats

    def narrowed(self, params: "SamplingParams") -> "SamplingParams":
        """`params` as a guarded step uses them."""
        return replace(
            params, min_p=max(params.min_p, self.min_p), temperature=min(params.temperature, self.temperature)
        )

    def __str__(self) -> str:
        """As in `system_fingerprint`."""
        parts = [f"kl{self.kl_nats:g}"]
        parts += [f"minp{self.min_p:g}"] if self.min_p else []
        parts += [f"t{self.temperature:g}"] if self.temperature < math.inf else []
        return "-".join([*parts, *(["nobias"] if self.unbiased else [])])
