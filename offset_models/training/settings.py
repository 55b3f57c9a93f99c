"""Everything that decides what a training run gives, beside its data and its base."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from offset_models.training.adapter import LINEAR_LAYERS
from offset_models.training.objective_registry import Objective, RetainName, check_options, find_objective
from server.errors import BadRequest

Precision = Literal["auto", "float32", "bfloat16"]
TradeOff = Literal["harmonic", "forget", "retain"]
RUN_ONLY: Final = ("eval_every", "save_every", "patience")  # when to look, not what comes out of a step


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Raises BadRequest for what cannot be trained. None: the objective's own."""

    steps: int
    objective: str = "idk"
    options: Mapping[str, float] = field(default_factory=dict)  # of the objective: beta, gamma
    retain_loss: RetainName | None = None
    retain_weight: float | None = None
    forget_batch: int = 16  # sequences a pass; a step makes `accumulate` passes
    retain_batch: int = 32
    accumulate: int = 1
    learning_rate: float = 2e-3
    warm_up: int = 20
    clip: float = 1.0  # largest gradient norm
    weight_decay: float = 0.0  # of the adapter: pulls u back to o where the losses do not care
    full: bool = False  # train a whole copy of o instead of a LoRA
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = LINEAR_LAYERS
    strength: float | None = None
    seed: int = 0
    precision: Precision = "auto"  # bfloat16 where there is a GPU
    checkpointing: bool = False  # gradient checkpointing: less memory, a third more time
    max_retain_kl: float = 2.0  # nats; a run whose retain KL stays above it has collapsed
    eval_every: int = 0  # steps between evaluations on held-out rows; 0: only before the first step and at the end
    patience: int = 0  # evaluations without a better trade-off before the run stops; 0: it does not
    trade_off: TradeOff = "harmonic"
    save_every: int = 25  # steps between states on disk
    masked_ids: tuple[int, ...] = ()  # ids below the vocabulary's size that are no token
    vocab_size: int | None = None  # rows of the model beyond it are padding; None: there are none

    def __post_init__(self) -> None:
        self._refuse_bad_numbers()
        for name, kind in (("retain_loss", RetainName), ("precision", Precision), ("trade_off", TradeOff)):
            if getattr(self, name) not in (*get_args(kind), *((None,) if name == "retain_loss" else ())):
                raise BadRequest(f"{name} is one of {', '.join(get_args(kind))}.")
        check_options(self.chosen, self.options)

    @property
    def chosen(self) -> Objective:
        return find_objective(self.objective)

    @property
    def retain(self) -> RetainName:
        return self.retain_loss or self.chosen.retain

    @property
    def weight(self) -> float:
        """Of the retain term."""
        return self.chosen.retain_weight if self.retain_weight is None else self.retain_weight

    @property
    def served_strength(self) -> float:
        """α in log q."""
        return self.chosen.strength if self.strength is None else self.strength

    def identity(self) -> dict[str, Any]:
        """What two runs must share to give the same weights, as plain JSON types."""
        return {name: value for name, value in asdict(self).items() if name not in RUN_ONLY}

    def _refuse_bad_numbers(self) -> None:
        whole = ("steps", "forget_batch", "retain_batch", "accumulate", "rank", "save_every")
        for name in whole:
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} must be at least 1.")
        for name in ("learning_rate", "clip", "alpha", "max_retain_kl"):
            if not getattr(self, name) > 0:
                raise BadRequest(f"{name} must be above 0.")
        for name in ("warm_up", "weight_decay", "eval_every", "patience"):
            if getattr(self, name) < 0:
                raise BadRequest(f"{name} must not be negative.")
        if self.patience and not self.eval_every:
            raise BadRequest("patience counts evaluations: set eval_every too.")
        if self.retain_weight is not None and not 0 <= self.retain_weight < float("inf"):
            raise BadRequest("retain_weight must be a number from 0 on.")
