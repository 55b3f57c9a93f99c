"""Settings of the black box: where it is, what it is asked for, how often it may be asked."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from deltaserve.server.settings.kinds import Seconds, check_fits_in_a_header
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream_settings import (
    LIMITS,
    Addresses,
    KeyOfEach,
    NumberOfEach,
    UpstreamSettings,
    check_each,
    each_upstream,
)


class BlackBox(BaseModel):
    """One black box, or several of one model."""

    upstream_url: Addresses = Field(
        (),
        description="base URL of the black box, for example http://127.0.0.1:8001; several of one model with commas",
    )
    upstream_model: str | None = Field(None, description="model name to ask for; default: the only one it lists")
    upstream_key: KeyOfEach = Field(
        (), description="its API key, sent to upstream_url only; of several: one for all, or one for each"
    )
    upstream_tokenizer: Path | None = Field(
        None,
        description="folder of the black box's tokenizer, where the offset's is another one (docs/bridge.md)",
    )
    upstream_dialect: Literal["auto", Dialect] = "auto"
    upstream_provider: str | None = Field(
        None, description="who has to answer behind a router of many (OpenRouter); no other one is used"
    )
    upstream_k: int = Field(20, ge=1, description="how many alternatives to ask for at each position")
    upstream_max_context: int | None = Field(None, ge=1, description="tokens; overrides what the black box says")
    upstream_grammars: bool = Field(
        True,
        description="false: the form of a structured answer is not told to the black box, where it could keep to it",
    )
    upstream_prefix_cache: bool = Field(
        True, description="false: llama.cpp computes each prompt whole, so that no answer depends on those before"
    )
    trust_draws: bool = Field(
        True,
        description="false: what the black box draws is a guess, kept where a draw of our own is the same; exact "
        "whatever it draws from, with more calls",
    )
    named_ids: Literal["off", "auto", "always"] = Field(
        "off",
        description="ask a black box that can (vLLM, SGLang) for the numbers of ids that the pair lifts; auto: where "
        "the imputed tail may decide, or the call takes the place of another one, one call an answer and one more for "
        "every 20 tokens; always: there, and where a greedy step is not certified",
    )
    named_tail: float = Field(
        0.03, ge=0, lt=1, description="share of the corrected distribution above which the imputed tail may decide"
    )
    upstream_ping_s: Seconds = Field(10.0, description="how often an idle black box is asked whether it is there")
    upstream_calls_at_once: NumberOfEach = Field(
        (), description="most calls to an upstream at a time; one number for all, or one for each; 0: no limit"
    )
    upstream_calls_per_minute: NumberOfEach = Field((), description="the same, of calls a minute")
    upstream_tokens_per_minute: NumberOfEach = Field(
        (), description="the same, of prompt and generated tokens a minute"
    )
    upstream_patience_s: Seconds = Field(
        10.0, description="how long a call may wait for an upstream within these limits and its Retry-After"
    )

    @field_validator("upstream_key")
    @classmethod
    def _fit_in_a_header(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            check_fits_in_a_header(key)
        return keys

    @model_validator(mode="after")
    def _one_for_each_upstream(self) -> Self:
        if self.upstream_url:
            check_each(self.upstream_url, {name: getattr(self, name) for name in ("upstream_key", *LIMITS)})
        return self

    @property
    def upstreams(self) -> list[UpstreamSettings]:
        """Each black box with what is set for it."""
        return each_upstream(self.upstream_url, self.upstream_key, *(getattr(self, name) for name in LIMITS))
