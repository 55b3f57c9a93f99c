"""What losses ask of positions, taken straight from logits, is what the written-out tables give; so are gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from deltaserve.offset_models.training.learning.distribution import (
    DensePositions,
    Positions,
    corrected,
    imputed_logprobs,
)
from deltaserve.offset_models.training.learning.objectives import BUILT_IN, kl, nll
from deltaserve.offset_models.training.learning.passes.fused import ROWS, Vocabulary
from deltaserve.offset_models.training.learning.passes.pair import Pair, PairPositions
from deltaserve.offset_models.training.learning.passes.tail import Imputed, imputed, unlisted

torch.set_num_threads(1)
SIZE, PADDED = 40, 44
VOCABULARY = Vocabulary(SIZE, (3, 17))
N = 2 * ROWS + 3  # more than one slice, and not a whole number of them


def lists(rng: np.random.Generator, k: int, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    """The black box's k best of tokens that there are."""
    logits = torch.from_numpy(rng.normal(0, spread, (N, PADDED)))
    logits[:, SIZE:] = -torch.inf
    logits[:, list(VOCABULARY.masked)] = -torch.inf
    logprobs, ids = logits.log_softmax(1).topk(k)
    return ids, logprobs


def pair_of(seed: int, k: int = 5, flat: bool = False) -> tuple[Pair, Tensor, tuple[Tensor, Tensor]]:
    """A pair, its logits of u (a leaf), and the lists. `flat`: o is sure of ids that the black box does not list."""
    rng = np.random.default_rng(seed)
    initial = torch.from_numpy(rng.normal(0, 8.0 if flat else 2.0, (N, PADDED)))
    unlearned = (initial + torch.from_numpy(rng.normal(0, 1.0, (N, PADDED)))).requires_grad_(True)
    ids, logprobs = lists(rng, k, 0.1 if flat else 2.0)
    sequences = torch.arange(N) // 4
    targets = torch.from_numpy(rng.choice([1, 2, 5, 8, 30], N))
    listed = imputed(ids, logprobs, VOCABULARY.rows(initial, slice(None)))
    misread = torch.zeros(N, dtype=torch.bool)
    return Pair(unlearned, initial, listed, VOCABULARY, targets, sequences, misread), unlearned, (ids, logprobs)


def dense(pair: Pair, unlearned: Tensor, listed: tuple[Tensor, Tensor], strength: float) -> Positions:
    """By the definitions."""
    none = torch.zeros(PADDED, dtype=torch.bool)
    none[SIZE:] = none[list(VOCABULARY.masked)] = True
    log_o, log_u = (table.masked_fill(none, -torch.inf).log_softmax(1) for table in (pair.initial, unlearned))
    log_p = imputed_logprobs(*listed, log_o)
    return DensePositions(log_p, corrected(log_p, log_o, log_u, strength), log_u, pair.targets, pair.sequences)


@pytest.mark.parametrize("strength", [1.0, -3.0, 1.5])
@pytest.mark.parametrize("flat", [False, True])
def test_every_loss_and_its_gradient_are_those_of_the_written_out_tables(strength: float, flat: bool) -> None:
    for objective in BUILT_IN:
        for loss in (lambda *b, o=objective: o.loss(*b), lambda *b: kl(b[0]) + 0.3 * nll(b[0])):
            pair, unlearned, listed = pair_of(7, flat=flat)
            fused, written = PairPositions([pair], strength), dense(pair, unlearned, listed, strength)
            count = len(objective.answers)
            values = [loss(*(batch,) * count) for batch in (fused, written)]
            torch.testing.assert_close(*values)
            torch.testing.assert_close(*(torch.autograd.grad(value, unlearned)[0] for value in values))


@pytest.mark.parametrize("flat", [False, True])
def test_tables_written_out_on_demand_are_the_definitions(flat: bool) -> None:
    pair, unlearned, listed = pair_of(3, flat=flat)
    fused, written = PairPositions([pair], 1.5), dense(pair, unlearned, listed, 1.5)
    for name in ("log_p", "log_q", "log_u", "answer_log_p", "answer_log_q", "answer_log_u", "divergence"):
        torch.testing.assert_close(getattr(fused, name), getattr(written, name))
    torch.testing.assert_close(fused.log_u_of(5), written.log_u_of(5))
    assert torch.equal(fused.answers_seen, fused.answer_log_q.detach())


def test_what_the_divergence_brings_along_has_no_gradient_and_stays_out_of_the_loss() -> None:
    pair, unlearned, listed = pair_of(5)
    fused, written = PairPositions([pair], 1.0), dense(pair, unlearned, listed, 1.0)
    kl(fused)
    assert not fused.answers_seen.requires_grad and fused.answer_log_q.requires_grad
    torch.testing.assert_close(fused.answers_seen, written.answer_log_q.detach())


def test_a_gate_closes_here_as_in_the_definition() -> None:
    pair, *_ = pair_of(2)
    open_gate, closed = PairPositions([pair], 1.0, 1e-9), PairPositions([pair], 1.0, 1e9)
    torch.testing.assert_close(open_gate.divergence, PairPositions([pair], 1.0).divergence)
    torch.testing.assert_close(closed.answer_log_q, closed.answer_log_p)


@pytest.mark.parametrize("candidates", [1, 4, 64])
@pytest.mark.parametrize("flat", [False, True])
def test_a_list_and_a_shift_are_the_imputed_distribution(candidates: int, flat: bool) -> None:
    rng = np.random.default_rng(11)
    logits = torch.from_numpy(rng.normal(0, 8.0 if flat else 2.0, (N, SIZE)))
    for k in (1, 5, SIZE - 2, SIZE):
        ids = torch.from_numpy(np.array([rng.permutation(SIZE)[:k] for _ in range(N)]))
        listed = torch.from_numpy(rng.normal(0, 0.2, (N, SIZE))).log_softmax(1)[:, :k].sort(1, descending=True).values
        found = logits.clone()
        imputed(ids, listed, logits.clone(), candidates).fill(found, slice(None))
        torch.testing.assert_close(found, imputed_logprobs(ids, listed, logits.log_softmax(1)))


def test_rows_without_a_list_are_the_initial_models_own() -> None:
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 2.0, (4, SIZE)))
    parts = [unlisted(logits[:2].clone()), imputed(*top_of(logits[2:]), logits[2:].clone())]
    found = logits.clone()
    Imputed.joined(parts).fill(found, slice(None))
    torch.testing.assert_close(found, logits.log_softmax(1))


def top_of(logits: Tensor) -> tuple[Tensor, Tensor]:
    logprobs, ids = logits.log_softmax(1).topk(6)
    return ids, logprobs


def test_numbers_kept_for_a_gradient_are_in_the_models_own_format() -> None:
    pair, *_ = pair_of(9)
    halved = pair.unlearned.detach().to(torch.bfloat16).requires_grad_(True)
    batch = PairPositions([replace(pair, unlearned=halved, initial=pair.initial.to(torch.bfloat16))], 1.0)
    (gradient,) = torch.autograd.grad(kl(batch), halved)
    assert gradient.dtype == torch.bfloat16 and batch.divergence.dtype == torch.float32
    assert not gradient[:, SIZE:].any()
