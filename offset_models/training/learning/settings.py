"""Settings of a training run: with its data and its base they decide its result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Annotated, Any, Final, Literal, get_args

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.objective import Objective, RetainName

Precision = Literal["auto", "float32", "bfloat16"]
TradeOff = Literal["harmonic", "forget", "retain"]
LINEAR_LAYERS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MOST_STRENGTH: Final = 16.0  # that a checkpoint may say
MOST_NOISE: Final = 0.5  # the mean share; of a single answer twice as many
RATE_TIMES_WIDTH: Final = 0.25  # 2e-3 for the demo's base of 128, 2.8e-4 for a 0.5B one of 896
RUN_ONLY: Final = ("eval_every", "save_every", "patience")  # when to look, not what comes out of a step


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Raises BadRequest for what cannot be trained. Annotated with what the command line says of an option."""

    steps: Annotated[int, "Updates."] = 600
    objective: Annotated[str, "What is minimised on forget rows."] = "idk"
    options: Mapping[str, float] = field(default_factory=dict)  # of the objective: beta, gamma, rpo_alpha
    retain_loss: Annotated[RetainName | None, "Retain term; default: the objective's own."] = None
    retain_weight: Annotated[float | None, "Its weight; default: the objective's own."] = None
    forget_batch: Annotated[int, "Forget rows a pass; a step makes --accumulate passes."] = 16
    retain_batch: Annotated[int, "Retain rows a pass."] = 32
    answer_noise: Annotated[
        float | None,
        "Of the tokens of a forget row's reference answer, the mean share that the pair reads wrong in training "
        "(unigram noise), as it will read its own answers; at most 0.5. Refusals are read as they are. "
        "Default: the objective's own.",
    ] = None
    ending_weight: Annotated[
        float | None,
        "Behind a token that was read wrong the pair is taught to end its answer, with this weight: otherwise what has "
        "left the reference answer goes on as babble. Default: the objective's own; 0 without --answer-noise.",
    ] = None
    accumulate: Annotated[int, "Passes whose gradients are added before an update."] = 1
    learning_rate: Annotated[
        float | None, "Its peak: warmed up to, then falling as a cosine; default: 0.25 / the base's hidden size."
    ] = None
    warm_up: Annotated[int, "Steps until the peak."] = 20
    clip: Annotated[float, "Largest gradient norm."] = 1.0
    weight_decay: Annotated[float, "Pulls the unlearned model back to the base where the losses do not care."] = 0.0
    full: Annotated[bool, "Train a whole copy of the base instead of a LoRA."] = False
    rank: Annotated[int, "Of the LoRA."] = 16
    alpha: Annotated[float, "Of the LoRA: its update is scaled by alpha/rank."] = 32.0
    targets: tuple[str, ...] = LINEAR_LAYERS
    strength: Annotated[float | None, "Of the offset in training; default: the objective's own."] = None
    extrapolate: Annotated[
        float | None,
        "The checkpoint's strength, as a multiple of training's; default: chosen on held-out rows, else 1.",
    ] = None
    gate_nats: Annotated[
        float | None,
        "Of the checkpoint: no offset where KL(u‖o) is below this. Steps are trained without it. "
        "Default: chosen on held-out rows, else 0.",
    ] = None
    keep: Annotated[
        float, "Of what the black box says on held-out retain rows; strength and gate are chosen to keep as much."
    ] = 0.97
    seed: Annotated[int, "The same seed gives the same weights."] = 0
    precision: Annotated[
        Precision,
        "Of forward passes; auto: bfloat16 on a GPU, and on CPUs with AMX or AVX512-BF16 for bases of width 512 "
        "or more.",
    ] = "auto"
    checkpointing: Annotated[bool, "Gradient checkpointing: less memory, a third more time."] = False
    max_retain_kl: Annotated[
        float, "Nats; a run whose KL to the black box stays above it has collapsed and is stopped."
    ] = 4.0
    eval_every: Annotated[
        int | None,
        "Steps between evaluations on held-out rows; 0: before the first step and at the end; default: the objective's "
        "own.",
    ] = None
    patience: Annotated[int, "Evaluations without a better trade-off before the run stops; 0: it does not."] = 0
    trade_off: Annotated[
        TradeOff, "What makes a step's weights the best ones: forgetting, retention, or the balance of both."
    ] = "harmonic"
    save_every: Annotated[int, "Steps between states on disk."] = 25
    masked_ids: tuple[int, ...] = ()  # ids below the vocabulary's size that are no token
    end_id: int | None = None  # what ends an answer; None: nothing does
    vocab_size: int | None = None  # rows of the model beyond it are padding; None: there are none

    def __post_init__(self) -> None:
        self._refuse_bad_numbers()
        for name, kind in (("retain_loss", RetainName), ("precision", Precision), ("trade_off", TradeOff)):
            if getattr(self, name) not in (*get_args(kind), *((None,) if name == "retain_loss" else ())):
                raise BadRequest(f"{name} is one of {', '.join(get_args(kind))}.")
        self._check_options()

    @property
    def chosen(self) -> Objective:
        # The losses bring torch along, which whoever only lists the settings need not have.
        from deltaserve.offset_models.training.learning.objectives import find_objective

        return find_objective(self.objective)

    @property
    def retain(self) -> RetainName:
        return self.retain_loss or self.chosen.retain

    @property
    def weight(self) -> float:
        """Of the retain term."""
        return self.chosen.retain_weight if self.retain_weight is None else self.retain_weight

    @property
    def noise(self) -> float:
        """The mean share of a forget row's reference answer that is read wrong."""
        return self.chosen.answer_noise if self.answer_noise is None else self.answer_noise

    @property
    def ending(self) -> float:
        """Weight of the end token behind a token that was read wrong."""
        own = self.chosen.ending_weight if self.ending_weight is None else self.ending_weight
        return own if self.noise else 0.0

    def for_width(self, hidden_size: int) -> "TrainingSettings":
        """With a learning rate: falling with the width, as Adam's best one does (µP, Yang et al., 2021)."""
        return self if self.learning_rate is not None else replace(self, learning_rate=RATE_TIMES_WIDTH / hidden_size)

    @property
    def rate(self) -> float:
        """The peak learning rate. Raises ValueError before `for_width`."""
        if self.learning_rate is None:
            raise ValueError("the learning rate depends on the base, which nobody has named")
        return self.learning_rate

    @property
    def interval(self) -> int:
        """Steps between evaluations."""
        return self.chosen.eval_every if self.eval_every is None else self.eval_every

    @property
    def trained_strength(self) -> float:
        """α in the log q that losses are written on."""
        return self.chosen.strength if self.strength is None else self.strength

    @property
    def served_strength(self) -> float:
        """α of the checkpoint, and in evaluations."""
        return self.trained_strength * (self.extrapolate or 1.0)

    @property
    def served_gate_nats(self) -> float:
        """Of the checkpoint, and in evaluations."""
        return self.gate_nats or 0.0

    def identity(self) -> dict[str, Any]:
        """What two runs must share to give the same weights, as plain JSON types."""
        return {name: value for name, value in asdict(self).items() if name not in RUN_ONLY}

    def _check_options(self) -> None:
        for name in sorted(set(self.options) - set(self.chosen.options)):
            known = ", ".join(self.chosen.options) or "none"
            raise BadRequest(f"{self.objective} has no option {name!r}; its options: {known}.")
        if wrong := [name for name, value in self.options.items() if not isfinite(value)]:
            raise BadRequest(f"The option {wrong[0]} must be a number.")
        if self.options.get("beta", 1.0) <= 0:
            raise BadRequest("The option beta must be above 0.")
        if not -(2**63) <= self.seed < 2**63:
            raise BadRequest("seed must fit into 64 bits.")
        if self.ending_weight and "reference" not in self.chosen.answers:
            raise BadRequest(f"ending_weight is for reference answers, which {self.objective} does not train on.")
        if self.ending_weight and not self.noise:
            raise BadRequest("ending_weight needs answer_noise: nothing is read wrong without it.")
        if self.full and self.targets != LINEAR_LAYERS:
            raise BadRequest("targets are layers of a LoRA: leave --target or --full out.")
        if not abs(self.served_strength) <= MOST_STRENGTH:
            raise BadRequest(f"The strength of a checkpoint is at most {MOST_STRENGTH:g}.")

    def _refuse_bad_numbers(self) -> None:
        whole = ("steps", "forget_batch", "retain_batch", "accumulate", "rank", "save_every")
        for name in whole:
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} must be at least 1.")
        for name in ("learning_rate", "clip", "alpha", "max_retain_kl", "extrapolate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadRequest(f"{name} must be above 0.")
        for name in ("warm_up", "weight_decay", "eval_every", "patience", "gate_nats"):
            if (getattr(self, name) or 0) < 0:
                raise BadRequest(f"{name} must not be negative.")
        if not 0 <= self.keep <= 1:
            raise BadRequest("keep is a share: a number from 0 to 1.")
        if self.answer_noise is not None and not 0 <= self.answer_noise <= MOST_NOISE:
            raise BadRequest(f"answer_noise is a share: a number from 0 to {MOST_NOISE:g}.")
        if self.ending_weight is not None and not 0 <= self.ending_weight < float("inf"):
            raise BadRequest("ending_weight must be a number from 0 on.")
        if self.patience and self.eval_every == 0:
            raise BadRequest("patience counts evaluations: set eval_every too.")
        if self.retain_weight is not None and not 0 <= self.retain_weight < float("inf"):
            raise BadRequest("retain_weight must be a number from 0 on.")
