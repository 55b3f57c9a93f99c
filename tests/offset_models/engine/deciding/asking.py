"""Asks the batch, and the numpy core, which is the definition."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from deltaserve.errors import DeltaserveError
from deltaserve.offset_models.engine.deciding.decide import decide
from deltaserve.offset_models.engine.deciding.questions import Question
from deltaserve.offset_models.engine.deciding.resolving import Outcome
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.from_row import decide_from_row
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import Floats, Proposal
from deltaserve.server.decoding.rows import Array, NumpyRow
from deltaserve.server.decoding.sampling import Target
from tests.offset_models.engine.deciding.positions import GREEDY, SMALL, Position


class ScriptedNoise(Noise):
    """An unseeded stream's randomness, whose numbers are known."""

    def __init__(self, uniforms: Iterable[float]) -> None:
        super().__init__(None)
        self._uniforms = iter(uniforms)

    def uniform(self) -> float:
        return next(self._uniforms)


def question(proposal: Proposal, params: SamplingParams = GREEDY, policy: Policy | None = None) -> Question:
    """About a position that is written out."""
    return Question(proposal, params, policy or Policy(), History(params, ()), Noise(params.seed), 1.0)


def ask(positions: Sequence[Position], size: int = SMALL, noises: Sequence[Noise] = ()) -> list[Outcome]:
    """The batch's answers."""
    rows = [position.row(size) for position in positions]
    base, offset = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
    own = noises or [None] * len(positions)
    return decide(base, offset, [p.question(size, noise) for p, noise in zip(positions, own, strict=True)])


def ask_one(position: Position, size: int = SMALL) -> Outcome:
    return ask([position], size)[0]


def ask_row(base: Array, offset: Array, asked: Question) -> Outcome:
    """The batch's answer about one row [V]."""
    rows = (torch.from_numpy(values.astype(np.float32))[None] for values in (base, offset))
    return decide(*rows, [asked])[0]


def decided(outcome: Outcome) -> Decision:
    """The decision of a question that must have one."""
    assert isinstance(outcome, Decision), repr(outcome)
    return outcome


def define_row(base: Array, offset: Array, asked: Question) -> tuple[Decision, Target]:
    """The core's decision and the target that it draws from. Raises what the core raises."""
    row = NumpyRow(base.astype(np.float32), offset.astype(np.float32))
    drawn_from = None if asked.drawn_from is None else asked.drawn_from.numpy()
    with np.errstate(all="ignore"):
        decision, goal = decide_from_row(
            row,
            asked.proposal,
            asked.params,
            asked.policy,
            asked.history,
            asked.noise,
            asked.draft_temperature,
            drawn_from,
        )
        _ = goal.probs  # while warnings are off
    return decision, goal


def define(position: Position, size: int = SMALL) -> tuple[Decision, Target]:
    return define_row(*position.row(size), position.question(size))


def refusal(position: Position, size: int = SMALL) -> type[Exception] | None:
    """The class of what the core raises here; None where it decides."""
    try:
        define(position, size)
    except (DeltaserveError, ArithmeticError) as error:
        return type(error)
    return None


def heaviness(goal: Target) -> Floats:
    """Weights of all ids before temperature and filters, [V]."""
    weights = goal.corrected.tail.weights()
    weights[goal.corrected.ids] = goal.weights
    return weights
