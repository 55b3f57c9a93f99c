"""How one request wants its tokens drawn and reported."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Validated parameters of one request; counts of logprobs are resolved (-1 has become the vocabulary's size)."""

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None  # alternatives per generated token; None: not even the drawn one's
    prompt_logprobs: int | None = None
    grammar: str | None = None  # of llguidance
    logprob_token_ids: tuple[int, ...] = ()  # report these instead of the natural top k

    @property
    def penalised(self) -> bool:
        return self.presence_penalty != 0 or self.frequency_penalty != 0 or self.repetition_penalty != 1

    @property
    def filtered(self) -> bool:
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)

    @property
    def plain(self) -> bool:
        """Whether the target is softmax(logits / temperature) and nothing else."""
        adjusted = self.penalised or self.logit_bias or self.allowed_token_ids or self.min_tokens
        return not (adjusted or self.filtered)
