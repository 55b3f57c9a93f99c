"""The description of a training objective. Nothing here imports torch, so that settings can be listed without it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from deltaserve.offset_models.training.learning.distribution import Positions

Answer = Literal["reference", "refusal", "generic"]  # what a forget row is answered with
RetainName = Literal["kl", "nll", "none"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A forget term, and what goes with it unless the user says otherwise.

    `loss` gets the Positions of each of `answers` in turn; its keyword-only arguments are the objective's options.
    """

    name: str
    loss: "Callable[..., Tensor]"
    answers: tuple[Answer, ...] = ("reference",)
    retain: RetainName = "kl"
    retain_weight: float = 1.0
    strength: float = 1.0  # α in log q
    eval_every: int = 50  # steps; fewer where the best ones come early and pass
    answer_noise: float = 0.0  # of the tokens of a reference answer, the share that is read wrong; reading o anew costs
    ending_weight: float = 0.0  # of the end token's log-probability behind such a token; needs answer_noise

    @property
    def collected(self) -> frozenset[Answer]:
        """The answers whose lists the black box must be asked for: generic ones are made of both."""
        return frozenset({"reference", "refusal"} if "generic" in self.answers else self.answers)

    @property
    def options(self) -> dict[str, float]:
        """Options of the loss and their defaults."""
        given = inspect.signature(self.loss).parameters.values()
        return {option.name: option.default for option in given if option.kind is option.KEYWORD_ONLY}

    def forget_loss(self, batches: "Mapping[Answer, Positions]", options: Mapping[str, float]) -> "Tensor":
        """The forget term of one batch."""
        return self.loss(*(batches[answer] for answer in self.answers), **options)
