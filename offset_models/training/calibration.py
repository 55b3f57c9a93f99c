"""How strong a checkpoint is served and behind which gate: chosen on held-out rows once the steps are done.

Steps decide what δ looks like; how much of it is applied is a choice between forgetting and keeping that costs no
training. A candidate is judged by greedy decoding along the reference answers, as evaluations are: the share of an
answer that is said before another token is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import torch
from torch import Tensor

from offset_models.training.batches import TrainingData
from offset_models.training.held_out import Outcome, balance, said_before
from offset_models.training.initial import InitialStates
from offset_models.training.passes import Raw, Scored, raw_parts
from offset_models.training.settings import TrainingSettings
from offset_models.training.student import Student

MULTIPLES: Final = (1.0, 1.25, 0.75, 1.5, 2.0)  # of the trained strength, the preferred ones first
GATES_NATS: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to serve the trained pair."""

    extrapolate: float  # the served strength as a multiple of the trained one
    gate_nats: float


def calibrated(
    student: Student, data: TrainingData, settings: TrainingSettings, initial: InitialStates | None = None
) -> TrainingSettings:
    """The settings with strength and gate chosen; as trained and without a gate where no rows were held out.

    What the settings name already is left as it is.
    """
    if to_be_chosen(data, settings):
        chosen, _ = best(outcomes_of(student, data, settings, initial), settings.keep)
    else:
        chosen = Candidate(settings.extrapolate or 1.0, settings.served_gate_nats)
    return replace(settings, extrapolate=chosen.extrapolate, gate_nats=chosen.gate_nats)


def to_be_chosen(data: TrainingData, settings: TrainingSettings) -> bool:
    return data.held_out and len(_candidates(settings)) > 1


def outcomes_of(
    student: Student, data: TrainingData, settings: TrainingSettings, initial: InitialStates | None = None
) -> dict[Candidate, Outcome]:
    """What every candidate gives on the held-out rows."""
    candidates = _candidates(settings)
    said = _shares(student, data.held_forget, candidates, settings, initial)
    kept = _shares(student, data.held_retain, candidates, settings, initial)
    return {candidate: Outcome(1 - s, k) for candidate, s, k in zip(candidates, said, kept, strict=True)}


def best(outcomes: Mapping[Candidate, Outcome], keep: float) -> tuple[Candidate, Outcome]:
    """The best balance of forgetting and keeping.

    Of equals the first one: with the lowest gate, because what closes a gate on held-out rows may close it on a
    forgotten question too, and with the strength nearest to the trained one.
    """
    order = sorted(outcomes, key=lambda candidate: candidate.gate_nats)
    chosen = max(order, key=lambda candidate: round(balance(outcomes[candidate], keep), 3))
    return chosen, outcomes[chosen]


def _candidates(settings: TrainingSettings) -> list[Candidate]:
    multiples = MULTIPLES if settings.extrapolate is None else (settings.extrapolate,)
    gates = GATES_NATS if settings.gate_nats is None else (settings.gate_nats,)
    return [Candidate(*pair) for pair in product(multiples, gates)]


@torch.no_grad()
def _shares(
    student: Student,
    rows: Sequence[Scored],
    candidates: Sequence[Candidate],
    settings: TrainingSettings,
    initial: InitialStates | None,
) -> list[float]:
    """Of each candidate: how much of the answers is said, as a share (at most 1) of what the black box says."""
    totals, before = torch.zeros(len(candidates)), 0.0
    for raw in raw_parts(student, rows, settings, initial):
        plain, *choices = _greedy(raw, candidates, settings.trained_strength)
        before += _said(raw, plain)
        totals += torch.tensor([_said(raw, choice) for choice in choices])
    return [min(1.0, total / before) if before else 0.0 for total in totals.tolist()]


def _greedy(raw: Raw, candidates: Sequence[Candidate], strength: float) -> list[Tensor]:
    """The best token at every position [n]: the black box's, then each candidate's."""
    divergence = (raw.log_u.exp() * raw.offset).sum(1)  # KL(p_u ‖ p_o), nats
    plain = raw.log_p.argmax(1)
    multiples = dict.fromkeys(candidate.extrapolate for candidate in candidates)
    moved = {multiple: (raw.log_p + strength * multiple * raw.offset).argmax(1) for multiple in multiples}
    return [plain, *(torch.where(divergence < c.gate_nats, plain, moved[c.extrapolate]) for c in candidates)]


def _said(raw: Raw, choice: Tensor) -> float:
    """Shares of all answers added up."""
    return said_before(choice != raw.targets, raw.sequences).sum().item()
