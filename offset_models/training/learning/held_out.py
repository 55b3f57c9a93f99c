"""Figures of a pair on held-out rows, and which of two figures is better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from deltaserve.offset_models.training.learning.distribution import (
    DensePositions,
    per_sequence,
)
from deltaserve.offset_models.training.learning.passes.forward import pairs_of
from deltaserve.offset_models.training.learning.passes.initial import InitialStates
from deltaserve.offset_models.training.learning.passes.pair import Pair
from deltaserve.offset_models.training.learning.settings import TradeOff, TrainingSettings
from deltaserve.offset_models.training.learning.student import Student
from deltaserve.offset_models.training.rows.scored import Scored

NEAR_TIE: Final = 1.0  # nats below its best token: what the black box might as well have said is no loss
SAID_ENOUGH: Final = 0.05  # mean share of the reference answers that the black box says, to be compared with


Merit = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of reference answers under log q."""

    forget_likelihood: float  # mean over answers of exp(mean log q(y*)): TOFU's Probability
    retain_likelihood: float
    forget_said: float  # share of an answer that greedy decoding says before it first departs from it
    retain_said: float  # likewise; a token within NEAR_TIE of the black box's best one does not depart
    retain_kl: float  # nats


@torch.no_grad()
def evaluate(
    student: Student,
    forget: Sequence[Scored],
    retain: Sequence[Scored],
    settings: TrainingSettings,
    initial: InitialStates | None = None,
) -> Figures:
    """Teacher-forced figures of both sides. Each side needs at least one row."""
    forgotten = _side(student, forget, settings, initial, near=0.0)
    retained = _side(student, retain, settings, initial, near=NEAR_TIE)
    return Figures(forgotten[0], retained[0], forgotten[1], retained[1], retained[2])


def share_said_before(wrong: Tensor, sequences: Tensor) -> Tensor:
    """Share of each sequence's positions that come before its first wrong one [sequences]; both are [n]."""
    so_far = wrong.cumsum(0)
    begins = torch.ones_like(wrong)
    begins[1:] = sequences[1:] != sequences[:-1]  # those of a sequence are next to each other
    before = (so_far - wrong.to(so_far.dtype)).masked_fill(~begins, 0).cummax(0).values  # in sequences further left
    right = (so_far == before).float()
    return per_sequence(right, sequences) / per_sequence(torch.ones_like(right), sequences)


def likelihood(answer_log_q: Tensor, sequences: Tensor) -> Tensor:
    """exp(mean log q(y*)) of each sequence [sequences]; both are [n]."""
    return (per_sequence(answer_log_q, sequences) / per_sequence(torch.ones_like(answer_log_q), sequences)).exp()


def harmonic_mean(one: float, other: float) -> float:
    """0 where either of the two is not positive."""
    return 0.0 if min(one, other) <= 0 else 2 * one * other / (one + other)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a pair, as shares of what the black box says."""

    forgotten: float
    kept: float


def outcome(before: Figures, now: Figures) -> Outcome:
    """By the share of reference answers that greedy decoding says; by likelihood where it hardly said any before."""
    forget = before.forget_said, now.forget_said, before.forget_likelihood, now.forget_likelihood
    retain = before.retain_said, now.retain_said, before.retain_likelihood, now.retain_likelihood
    return Outcome(1 - share_left(*forget), share_left(*retain))


def balance(reached: Outcome, keep: float) -> float:
    """Harmonic mean of both; keeping more than `keep` counts for nothing, keeping less with its fourth power."""
    return harmonic_mean(reached.forgotten, 1.0 if reached.kept >= keep else (reached.kept / keep) ** 4)


def merit(trade_off: TradeOff, reached: Outcome, keep: float) -> Merit:
    """What makes a step's weights the best ones: the trade-off's score, then the other side. Less than .01 is noise."""
    rest = reached.forgotten if trade_off == "retain" else reached.kept
    return round(TRADE_OFFS[trade_off](reached, keep), 2), round(rest, 2)


TRADE_OFFS: Final[Mapping[TradeOff, Callable[[Outcome, float], float]]] = MappingProxyType(
    {
        "harmonic": balance,
        "forget": lambda found, _keep: found.forgotten,
        "retain": lambda found, _keep: found.kept,
    }
)


def _side(
    student: Student,
    rows: Sequence[Scored],
    settings: TrainingSettings,
    initial: InitialStates | None,
    *,
    near: float,
) -> tuple[float, float, float]:
    """Likelihood, share said, KL (nats a token) over all rows."""
    likelihoods, shares, nats, tokens = 0.0, 0.0, 0.0, 0
    for pair in pairs_of(student, rows, settings, initial):
        wrong, answers, divergence = _served(pair, settings, near)
        likelihoods += likelihood(answers, pair.sequences).sum().item()
        shares += share_said_before(wrong, pair.sequences).sum().item()
        nats += divergence.sum().item()
        tokens += len(wrong)
    return likelihoods / len(rows), shares / len(rows), nats / tokens


def _served(pair: Pair, settings: TrainingSettings, near: float) -> tuple[Tensor, Tensor, Tensor]:
    """Whether log q's best token departs, log q(y*) and KL(p ‖ q) of each position [n], as the pair will be served."""
    found = []
    for tables, targets in pair.parts():
        log_q = tables.corrected(settings.served_strength, settings.served_gate_nats)
        dense = DensePositions(tables.log_p, log_q, tables.log_u, targets, torch.zeros_like(targets))
        wrong = departs(log_q.argmax(1), targets, tables.log_p, near)
        found.append((wrong, dense.answer_log_q, dense.divergence))
    wrong, answers, divergence = (torch.cat(columns) for columns in zip(*found, strict=True))
    return wrong, answers, divergence


def departs(tokens: Tensor, targets: Tensor, log_p: Tensor, near: float) -> Tensor:
    """Whether each token [n] is another than the reference one and, with `near`, so many nats less likely.

    log_p: the black box's, [n, V].
    """
    other = tokens != targets
    if not near:
        return other
    said, reference = (log_p.gather(1, ids[:, None]).squeeze(1) for ids in (tokens, targets))
    return other & (said < reference - near)


def share_left(said_before: float, said_now: float, likely_before: float, likely_now: float) -> float:
    """The share that is left, at most 1: of what is said if SAID_ENOUGH was, else of the likelihood."""
    was, now = (said_before, said_now) if said_before >= SAID_ENOUGH else (likely_before, likely_now)
    return min(1.0, now / was) if was > 0 else 0.0
