"""Everything that decides what a training run gives, beside its data and its base."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from server.errors import BadRequest

if TYPE_CHECKING:
    from offset_models.training.objective_registry import Objective

RetainName = Literal["kl", "nll", "none"]
Precision = Literal["auto", "float32", "bfloat16"]
TradeOff = Literal["harmonic", "forget", "retain"]
LINEAR_LAYERS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RUN_ONLY: Final = ("eval_every", "save_every", "patience")  # when to look, not what comes out of a step


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Raises BadRequest for what cannot be trained. Annotated with what the command line says of an option."""

    steps: Annotated[int, "Updates."] = 200
    objective: Annotated[str, "What is minimised on forget rows."] = "idk"
    options: Mapping[str, float] = field(default_factory=dict)  # of the objective: beta, gamma
    retain_loss: Annotated[RetainName | None, "Retain term; default: the objective's own."] = None
    retain_weight: Annotated[float | None, "Its weight; default: the objective's own."] = None
    forget_batch: Annotated[int, "Forget rows a pass; a step makes --accumulate passes."] = 16
    retain_batch: Annotated[int, "Retain rows a pass."] = 32
    accumulate: Annotated[int, "Passes whose gradients are added before an update."] = 1
    learning_rate: Annotated[float, "Its peak: warmed up to, then falling as a cosine."] = 2e-3
    warm_up: Annotated[int, "Steps until the peak."] = 20
    clip: Annotated[float, "Largest gradient norm."] = 1.0
    weight_decay: Annotated[float, "Pulls the unlearned model back to the base where the losses do not care."] = 0.0
    full: Annotated[bool, "Train a whole copy of the base instead of a LoRA."] = False
    rank: Annotated[int, "Of the LoRA."] = 16
    alpha: Annotated[float, "Of the LoRA: its update is scaled by alpha/rank."] = 32.0
    targets: tuple[str, ...] = LINEAR_LAYERS
    strength: Annotated[
        float | None, "Of the offset, in training and in the checkpoint; default: the objective's own."
    ] = None
    gate_nats: Annotated[
        float, "Of the checkpoint: no offset where KL(u‖o) is below this. Steps are trained without it, judged with it."
    ] = 0.0
    seed: Annotated[int, "The same seed gives the same weights."] = 0
    precision: Annotated[Precision, "Of forward passes; auto: bfloat16 on a GPU."] = "auto"
    checkpointing: Annotated[bool, "Gradient checkpointing: less memory, a third more time."] = False
    max_retain_kl: Annotated[
        float, "Nats; a run whose KL to the black box stays above it has collapsed and is stopped."
    ] = 2.0
    eval_every: Annotated[
        int, "Steps between evaluations on held-out rows; 0: before the first step and at the end."
    ] = 50
    patience: Annotated[int, "Evaluations without a better trade-off before the run stops; 0: it does not."] = 0
    trade_off: Annotated[
        TradeOff, "What makes weights the best ones: forgetting, retention, or both's harmonic mean."
    ] = "harmonic"
    save_every: Annotated[int, "Steps between states on disk."] = 25
    masked_ids: tuple[int, ...] = ()  # ids below the vocabulary's size that are no token
    vocab_size: int | None = None  # rows of the model beyond it are padding; None: there are none

    def __post_init__(self) -> None:
        self._refuse_bad_numbers()
        for name, kind in (("retain_loss", RetainName), ("precision", Precision), ("trade_off", TradeOff)):
            if getattr(self, name) not in (*get_args(kind), *((None,) if name == "retain_loss" else ())):
                raise BadRequest(f"{name} is one of {', '.join(get_args(kind))}.")
        self._check_options()

    @property
    def chosen(self) -> "Objective":
        # The losses bring torch along, which whoever only lists the settings need not have.
        from offset_models.training.objective_registry import find_objective

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

    def _check_options(self) -> None:
        for name in sorted(set(self.options) - set(self.chosen.options)):
            known = ", ".join(self.chosen.options) or "none"
            raise BadRequest(f"{self.objective} has no option {name!r}; its options: {known}.")

    def _refuse_bad_numbers(self) -> None:
        whole = ("steps", "forget_batch", "retain_batch", "accumulate", "rank", "save_every")
        for name in whole:
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} must be at least 1.")
        for name in ("learning_rate", "clip", "alpha", "max_retain_kl"):
            if not getattr(self, name) > 0:
                raise BadRequest(f"{name} must be above 0.")
        for name in ("warm_up", "weight_decay", "eval_every", "patience", "gate_nats"):
            if getattr(self, name) < 0:
                raise BadRequest(f"{name} must not be negative.")
        if self.patience and not self.eval_every:
            raise BadRequest("patience counts evaluations: set eval_every too.")
        if self.retain_weight is not None and not 0 <= self.retain_weight < float("inf"):
            raise BadRequest("retain_weight must be a number from 0 on.")
