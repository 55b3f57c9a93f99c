"""How strong a checkpoint is served and behind which gate: chosen on held-out rows once the steps are done.

Steps decide what δ looks like; how much of it is applied is a choice between forgetting and keeping that costs no
training. A candidate is judged as evaluations are, along the reference answers: by the share that greedy decoding says
before another token, or by likelihood where the black box hardly says any of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import torch
from torch import Tensor

from deltaserve.offset_models.training.learning.batches import TrainingData
from deltaserve.offset_models.training.learning.distribution import per_sequence
from deltaserve.offset_models.training.learning.held_out import (
    NEAR_TIE,
    Outcome,
    balance,
    departs,
    share_left,
    share_said_before,
)
from deltaserve.offset_models.training.learning.passes.forward import pairs_of
from deltaserve.offset_models.training.learning.passes.initial import InitialStates
from deltaserve.offset_models.training.learning.passes.pair import ModelLogprobs, Pair
from deltaserve.offset_models.training.learning.settings import MOST_STRENGTH, TrainingSettings
from deltaserve.offset_models.training.learning.student import Student
from deltaserve.offset_models.training.rows.scored import Scored

MULTIPLES: Final = (1.0, 1.15, 1.25, 0.75, 1.5, 2.0)  # of the trained strength, the preferred ones first
GATES_NATS: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to serve the trained pair."""

    extrapolate: float  # the served strength as a multiple of the trained one
    gate_nats: float


def calibrated(outcomes: Mapping[Candidate, Outcome], settings: TrainingSettings) -> TrainingSettings:
    """The settings with the best of the candidates; as trained and without a gate where there are none."""
    return served_by(settings, best(outcomes, settings.keep)[0]) if outcomes else as_trained(settings)


def served_by(settings: TrainingSettings, chosen: Candidate) -> TrainingSettings:
    """The settings as `chosen` serves them."""
    return replace(settings, extrapolate=chosen.extrapolate, gate_nats=chosen.gate_nats)


def as_trained(settings: TrainingSettings) -> TrainingSettings:
    """Strength and gate as the settings name them, else nothing added to what was trained."""
    return replace(settings, extrapolate=settings.extrapolate or 1.0, gate_nats=settings.served_gate_nats)


def to_be_chosen(data: TrainingData, settings: TrainingSettings) -> bool:
    return data.held_out and len(candidates_of(settings)) > 1


def outcomes_of(
    student: Student, data: TrainingData, settings: TrainingSettings, initial: InitialStates | None = None
) -> dict[Candidate, Outcome]:
    """What every candidate gives on the held-out rows."""
    candidates = candidates_of(settings)
    sides = ((data.held_forget, 0.0), (data.held_retain, NEAR_TIE))
    forget, retain = (_left(student, rows, candidates, settings, initial, near=near) for rows, near in sides)
    return {candidate: Outcome(1 - f, r) for candidate, f, r in zip(candidates, forget, retain, strict=True)}


def best(outcomes: Mapping[Candidate, Outcome], keep: float) -> tuple[Candidate, Outcome]:
    """The best balance of forgetting and keeping.

    Of equals the one that keeps most, then the first one:
    with the lowest gate, because what closes a gate on held-out rows may close it on a forgotten question too, and with
    the strength nearest to the trained one.
    """

    def merit(candidate: Candidate) -> tuple[float, float]:
        outcome = outcomes[candidate]
        return round(balance(outcome, keep), 3), round(outcome.kept, 3)

    chosen = max(sorted(outcomes, key=lambda candidate: candidate.gate_nats), key=merit)
    return chosen, outcomes[chosen]


def candidates_of(settings: TrainingSettings) -> list[Candidate]:
    """The candidates that the settings leave open, within the bounds of a checkpoint."""
    multiples = [m for m in MULTIPLES if abs(settings.trained_strength * m) <= MOST_STRENGTH]
    gates = GATES_NATS if settings.gate_nats is None else (settings.gate_nats,)
    return [Candidate(*pair) for pair in product((settings.extrapolate,) if settings.extrapolate else multiples, gates)]


@torch.no_grad()
def _left(
    student: Student,
    rows: Sequence[Scored],
    candidates: Sequence[Candidate],
    settings: TrainingSettings,
    initial: InitialStates | None,
    *,
    near: float,
) -> list[float]:
    """For each candidate: the share of the black box's answers that is left."""
    sums = torch.zeros(1 + len(candidates), 2)
    for pair in pairs_of(student, rows, settings, initial):
        seen = _seen_by(pair, candidates, settings.trained_strength, near)
        sums += torch.stack([_said_and_likely(pair, *choice) for choice in seen]).cpu()  # one copy from the device
    (said, likely), *after = (sums / len(rows)).tolist()
    return [share_left(said, now_said, likely, now_likely) for now_said, now_likely in after]


def _seen_by(
    pair: Pair, candidates: Sequence[Candidate], strength: float, near: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Whether it departs from the reference token, and that one's log-probability, [n] each.

    The black box's, then each candidate's.
    """
    multiples = list(dict.fromkeys(candidate.extrapolate for candidate in candidates))
    parts = [
        _of_part(tables, targets, [strength * multiple for multiple in multiples], near)
        for tables, targets in pair.parts()
    ]
    divergence, *seen = (torch.cat(columns) for columns in zip(*parts, strict=True))
    plain, *others = zip(seen[::2], seen[1::2], strict=True)
    moved = dict(zip(multiples, others, strict=True))
    yield plain
    for candidate in candidates:
        (wrong, logprob), closed = moved[candidate.extrapolate], divergence < candidate.gate_nats
        yield torch.where(closed, plain[0], wrong), torch.where(closed, plain[1], logprob)


def _of_part(tables: ModelLogprobs, targets: Tensor, strengths: Sequence[float], near: float) -> list[Tensor]:
    """KL(p_u ‖ p_o) in nats; departure and reference's log-probability without an offset and at each strength."""
    log_p, offset = tables.log_p, tables.offset
    plain = log_p.gather(1, targets[:, None]).squeeze(1)
    found = [tables.divergence, departs(log_p.argmax(1), targets, log_p, near), plain]
    for strength in strengths:
        moved = log_p.add(offset, alpha=strength)
        wrong = departs(moved.argmax(1), targets, log_p, near)
        found += [wrong, moved.gather(1, targets[:, None]).squeeze(1) - moved.logsumexp(1)]
    return found


def _said_and_likely(raw: Pair, wrong: Tensor, logprob: Tensor) -> Tensor:
    """[2], each added up over answers: the share said before another token is, and exp(mean log-probability)."""
    likely = (per_sequence(logprob, raw.sequences) / per_sequence(torch.ones_like(logprob), raw.sequences)).exp()
    return torch.stack([share_said_before(wrong, raw.sequences).sum(), likely.sum()])
