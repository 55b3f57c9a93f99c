"""Every loss against numpy with the formula written out, and the direction in which its gradient moves log q."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from deltaserve.offset_models.training.learning import objectives
from deltaserve.offset_models.training.learning.distribution import DensePositions
from tests.offset_models.training.positions import Case, Floats, case

torch.set_num_threads(1)


def mean(values: list[list[float]]) -> float:
    return float(np.mean([value for row in values for value in row]))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def ratios(made: Case) -> list[float]:
    """log q(y|x) − log p(y|x) of each sequence."""
    pairs = zip(made.answers(made.log_q), made.answers(made.log_p), strict=True)
    return [math.fsum(q) - math.fsum(p) for q, p in pairs]


def reference_kl(p: Floats, q: Floats) -> float:
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def reference_simnpo(made: Case) -> float:
    beta, gamma = 4.5, 0.5
    losses = [-2 / beta * math.log(sigma(-beta * sum(q) / len(q) - gamma)) for q in made.answers(made.log_q)]
    return float(np.mean(losses))


def reference_undial(made: Case, beta: float) -> float:
    logits = made.log_p.copy()
    logits[np.arange(len(logits)), made.batch.targets.numpy()] -= beta
    teacher = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-np.mean(np.sum(teacher * made.log_q, axis=1)))


CASES: dict[str, tuple[Callable[[Case], Tensor], Callable[[Case], float]]] = {
    "nll": (lambda c: objectives.nll(c.batch), lambda c: -mean(c.answers(c.log_q))),
    "kl": (lambda c: objectives.kl(c.batch), lambda c: reference_kl(c.log_p, c.log_q)),
    "grad_ascent": (lambda c: objectives.grad_ascent(c.batch), lambda c: mean(c.answers(c.log_q))),
    "grad_diff": (lambda c: objectives.grad_diff(c.batch), lambda c: mean(c.answers(c.log_q))),
    "kl_min": (lambda c: objectives.kl_min(c.batch), lambda c: mean(c.answers(c.log_q))),
    "idk": (lambda c: objectives.idk(c.batch), lambda c: -mean(c.answers(c.log_q))),
    "npo": (
        lambda c: objectives.npo(c.batch, beta=0.3),
        lambda c: float(np.mean([2 / 0.3 * math.log(1 + math.exp(ratio) ** 0.3) for ratio in ratios(c)])),
    ),
    "simnpo": (lambda c: objectives.simnpo(c.batch, beta=4.5, gamma=0.5), reference_simnpo),
    "undial": (lambda c: objectives.undial(c.batch, beta=3.0), lambda c: reference_undial(c, 3.0)),
    "contrast": (lambda c: objectives.contrast(c.batch), lambda c: -mean(c.answers(c.log_u))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_the_formula(name: str, seed: int) -> None:
    loss, reference = CASES[name]
    made = case(seed)
    assert loss(made).item() == pytest.approx(reference(made), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_dpo_is_the_formula(seed: int) -> None:
    lost, won = case(seed, (3, 1, 2)), case(seed + 50, (1, 4, 2))
    margins = [w - x for w, x in zip(ratios(won), ratios(lost), strict=True)]
    expected = np.mean([-2 / 0.3 * math.log(sigma(0.3 * margin)) for margin in margins])
    assert objectives.dpo(lost.batch, won.batch, beta=0.3).item() == pytest.approx(float(expected), rel=1e-9)
    with_refusal = float(expected) - 0.7 * mean(won.answers(won.log_q))
    with_term = objectives.dpo(lost.batch, won.batch, beta=0.3, rpo_alpha=0.7)
    assert with_term.item() == pytest.approx(with_refusal, rel=1e-9)


def after_a_step(made: Case, loss: Tensor, rate: float = 1e-3) -> list[float]:
    """How much log q(y*) of each position rises when u's logits follow the gradient a little."""
    (gradient,) = torch.autograd.grad(loss, made.logits, retain_graph=True)
    (rise,) = torch.autograd.grad(made.batch.answer_log_q.sum(), made.logits)
    return (-rate * (gradient * rise).sum(1)).tolist()


FORGETTING = ("grad_ascent", "grad_diff", "kl_min", "npo", "simnpo", "undial")


@pytest.mark.parametrize("name", FORGETTING)
def test_forgetting_makes_every_reference_token_less_likely(name: str) -> None:
    made = case(1, start=True)
    assert max(after_a_step(made, CASES[name][0](made))) < 0


@pytest.mark.parametrize("name", ["nll", "idk"])
def test_likelihood_makes_every_answer_token_more_likely(name: str) -> None:
    made = case(1, start=True)
    assert min(after_a_step(made, CASES[name][0](made))) > 0


def test_dpo_raises_the_refusal_and_lowers_the_reference() -> None:
    lost, won = case(1, start=True), case(2, start=True)
    loss = objectives.dpo(lost.batch, won.batch)
    assert max(after_a_step(lost, loss)) < 0 < min(after_a_step(won, loss))


def test_contrast_teaches_the_answer_to_u_and_takes_it_from_q() -> None:
    made = case(1, start=True, strength=-1.0)
    loss = objectives.contrast(made.batch)
    (gradient,) = torch.autograd.grad(loss, made.logits, retain_graph=True)
    assert max(after_a_step(made, loss)) < 0
    assert bool((gradient.gather(1, made.batch.targets[:, None]) < 0).all())


def test_kl_is_zero_with_a_zero_gradient_before_the_first_step_and_pulls_back_later() -> None:
    made = case(1, start=True)
    loss = objectives.kl(made.batch)
    (gradient,) = torch.autograd.grad(loss, made.logits)
    assert loss.item() == pytest.approx(0, abs=1e-12) and gradient.abs().max().item() < 1e-12
    moved = case(1)
    (gradient,) = torch.autograd.grad(objectives.kl(moved.batch), moved.logits)
    probs = (moved.batch.log_q.exp() - moved.batch.log_p.exp()) / len(moved.batch.targets)
    torch.testing.assert_close(gradient, probs.detach())  # what q has too much of goes down


def test_npo_stops_pushing_what_is_forgotten_and_grad_ascent_does_not() -> None:
    made = case(1, start=True)
    made.batch.log_q.data -= 40.0 * torch.nn.functional.one_hot(made.batch.targets, 9)  # as if forgotten long ago

    def push(loss: Tensor) -> float:
        (gradient,) = torch.autograd.grad(loss, made.batch.log_q, retain_graph=True)
        return gradient.abs().max().item()

    assert push(objectives.npo(made.batch, beta=1.0)) < 1e-9 < 0.1 < push(objectives.grad_ascent(made.batch))


def test_ids_that_the_tokenizer_does_not_have_give_no_nan() -> None:
    made = case(4)
    hole = torch.zeros(made.batch.log_p.shape, dtype=torch.bool)
    hole[:, 8] = True
    holed = case(4)
    log_p, log_q = (
        table.masked_fill(hole, -torch.inf).log_softmax(1) for table in (holed.batch.log_p, holed.batch.log_q)
    )
    batch = DensePositions(log_p, log_q, holed.batch.log_u, holed.batch.targets.clamp(max=7), holed.batch.sequences)
    for loss in (objectives.kl, objectives.undial, objectives.npo):
        (gradient,) = torch.autograd.grad(loss(batch), holed.logits, retain_graph=True)
        assert bool(gradient.isfinite().all())
