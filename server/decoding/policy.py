"""What the operator, never the client, decides about an answer: how it is corrected, and what of that it shows.

A guard: where the correction is large, the target may be narrower than the client asked for. Sampling says now and then
what a greedy answer never does, since a forgotten answer keeps a little of its mass. A guard acts on the steps with
KL(after ‖ before) above a bound and on no other. It changes the target itself, so that every token is still an exact
draw from what the server says it serves (`system_fingerprint` names the guard).
"""

import math
from dataclasses import dataclass, replace

from deltaserve.server.decoding.correction import Corrected, TailPolicy
from deltaserve.server.decoding.explanation import kl_after_before
from deltaserve.server.decoding.params import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A narrower target where the correction is large. It looks at the whole vocabulary where it may act."""

    kl_nats: float  # acts where KL(after ‖ before) is above this
    min_p: float = 0.0  # least min_p of such a step
    temperature: float = math.inf  # highest temperature of such a step; 0: greedy
    unbiased: bool = False  # such a step heeds no logit_bias and no penalty

    def acts(self, corrected: Corrected, params: SamplingParams) -> bool:
        """Whether this step is narrowed."""
        matters = params.temperature > 0.0 or (self.unbiased and params.biased)
        return matters and kl_after_before(corrected) > self.kl_nats

    def narrowed(self, params: SamplingParams) -> SamplingParams:
        """`params` as a guarded step uses them."""
        return replace(
            params, min_p=max(params.min_p, self.min_p), temperature=min(params.temperature, self.temperature)
        )

    def __str__(self) -> str:
        """The guard as `system_fingerprint` names it."""
        parts = [f"kl{self.kl_nats:g}"]
        parts += [f"minp{self.min_p:g}"] if self.min_p else []
        parts += [f"t{self.temperature:g}"] if self.temperature < math.inf else []
        return "-".join([*parts, *(["nobias"] if self.unbiased else [])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Where the black box is asked for ids by name: where its tail, which is imputed, may decide the token."""

    tail: float  # share of q above which the tail may
    certify: bool = False  # and at every greedy step that is not certified, whatever its tail weighs
    most: int = 128  # ids that are named at a position
    ahead: int = 0  # tokens of M's own behind a token that it did not draw, which the same call tells; 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's decisions for one answer."""

    tail: TailPolicy = "impute"
    guard: Guard | None = None
    allow_blind: bool = False  # where the black box shows no list the pair alone decides, instead of an error
    naming: Naming | None = None  # None: no id is asked for by name
    explain: int = 0  # candidates to explain at each position; 0: none, as for everybody without the admin key

    def needs_whole_lists(self, params: SamplingParams) -> bool:
        """Whether something is asked of q over the whole vocabulary, whatever a constraint allows.

        So it is of a seeded answer: its text must not depend on whether a call with the grammar failed.
        """
        told = params.top_logprobs is not None or bool(self.explain) or params.seed is not None
        return told or self.guard is not None or params.repetition_penalty != 1.0

    @property
    def asking(self) -> Naming | None:
        """`naming` as far as an explained answer may have it, each step of which shows a whole list."""
        return replace(self.naming, ahead=0) if self.naming is not None and self.explain else self.naming

    @property
    def marks(self) -> list[str]:
        """The parts of `system_fingerprint` that say how this policy changes the target."""
        return [
            *([str(self.guard)] if self.guard else []),
            *(["blind"] if self.allow_blind else []),
            *(["named"] if self.naming else []),
        ]
