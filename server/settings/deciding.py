"""Settings of what computes and decides each token: the pair's device, guards, and who drafts."""

from typing import Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from deltaserve.server.decoding.params import LEAST_TEMPERATURE


class Deciding(BaseModel):
    """How tokens are drafted and corrected, and on which device the pair runs."""

    tail: Literal["impute", "truncate"] = "impute"
    allow_blind: bool = Field(
        False,
        description="where the black box shows no list, even asked again, the pair alone decides; default: an error",
    )
    device: str = Field("auto", description="where the pair runs: cpu, cuda, or auto: the GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    torch_threads: int | None = Field(None, ge=1)

    # guards: steps where the correction is large, narrower than the client asked for
    guard_kl: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="nats; the other guards act where KL(after ‖ before) is above it"
    )
    guard_min_p: float = Field(0.0, ge=0, le=1, description="least min_p of a guarded step")
    guard_temperature: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="highest temperature of a guarded step; 0 makes it greedy"
    )
    guard_unbiased: bool = Field(False, description="guarded steps heed no logit_bias and no penalties")

    # who drafts
    early_restarts: bool = Field(
        True, description="open the next call while the black box works on a token that the pair expects to be replaced"
    )
    local_drafts: bool = Field(True, description="let the pair draft where that pays")
    local_draft_block: int = Field(16, ge=1, le=64, description="longest block that the pair drafts")
    local_draft_positions_per_token: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="most positions the black box is asked to score per emitted token"
    )
    local_draft_scored_prompt: int = Field(
        256, ge=0, description="longest prompt, block included, that may be scored anew to check a block; 0: never"
    )
    local_draft_concurrent_positions: int = Field(256, ge=2, description="of all blocks on their way to the black box")

    @field_validator("guard_temperature")
    @classmethod
    def _reachable(cls, value: float | None) -> float | None:
        if value and value < LEAST_TEMPERATURE:
            raise ValueError(f"it must be 0 (greedy) or at least {LEAST_TEMPERATURE:g}")
        return value

    @model_validator(mode="after")
    def _guards_have_a_bound(self) -> Self:
        narrowing = self.guard_min_p > 0 or self.guard_temperature is not None or self.guard_unbiased
        if narrowing and self.guard_kl is None:
            raise ValueError("guard_min_p, guard_temperature and guard_unbiased need guard_kl: the steps they act on")
        if self.guard_kl is not None and not narrowing:
            raise ValueError("guard_kl does nothing alone: set guard_min_p, guard_temperature or guard_unbiased too")
        return self
