"""What a request asks of its tokens. Nothing here depends on the black box or on the operator."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.words import Words

LEAST_TEMPERATURE: Final = 1e-6  # above 0: divided by much less, log-probabilities would leave the range of floats

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """The sampling parameters of one request. They were validated before, and all ids lie in the vocabulary."""

    max_tokens: int
    temperature: float = 1.0  # 0: greedy; else at least LEAST_TEMPERATURE
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    eos_ids: frozenset[int] = frozenset()
    stop_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    stop_tokens: Mapping[int, str] = field(default_factory=dict)  # of `stop`: special tokens, which have no text
    top_logprobs: int | None = None  # None: no logprobs; 0: the emitted token's only
    constraint: Constraint | None = None  # None: every token is allowed
    words: Words | None = None  # tokens that are not allowed, with a constraint or without one
    shows_stop: bool = False  # a stop string that ends the answer is a part of its text

    @property
    def filtered(self) -> bool:
        """True when min_p, top_k or top_p may cut ids off."""
        return self.top_p < 1.0 or self.top_k > 0 or self.min_p > 0.0

    def unfiltered(self) -> "SamplingParams":
        """The same without min_p, top_k and top_p."""
        return replace(self, min_p=0.0, top_k=0, top_p=1.0) if self.filtered else self

    @property
    def biased(self) -> bool:
        """True when a penalty or `logit_bias` may change weights."""
        penalised = self.repetition_penalty != 1.0 or bool(self.presence_penalty or self.frequency_penalty)
        return penalised or bool(self.logit_bias)

    @property
    def final_ids(self) -> frozenset[int]:
        """Ids that end the answer."""
        return self._named_ends if self.ignore_eos else self.end_ids

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that may not be emitted before `min_tokens`."""
        named = self._named_ends
        return named | self.eos_ids if named else self.eos_ids  # asked at every token, and hardly ever named

    @property
    def _named_ends(self) -> frozenset[int]:
        return self.stop_token_ids.union(self.stop_tokens) if self.stop_tokens else self.stop_token_ids

    def ending_with(self, token_id: int) -> "SamplingParams":
        """The same where this id ends an answer too, though not before `min_tokens`."""
        return self if token_id in self.eos_ids else replace(self, eos_ids=self.eos_ids | {token_id})

    def stop_reason(self, token_id: int) -> int | str | None:
        """What the request called the id that ended its answer; None where that id ends every answer."""
        return self.stop_tokens.get(token_id, None if token_id in self.eos_ids else token_id)
