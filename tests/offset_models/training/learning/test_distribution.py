"""log p and log q against a slow float64 reference that walks the vocabulary, and what must hold at step 0."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deltaserve.offset_models.engine.offset_rows import PairLogits, offset_rows
from deltaserve.offset_models.engine.pair import FullModel, Pair
from deltaserve.offset_models.training.learning.distribution import corrected, imputed_logprobs
from deltaserve.offset_models.training.learning.held_out import likelihood
from tests.support import reference
from tests.support.amounts import examples

torch.set_num_threads(1)


def logprobs(rng: np.random.Generator, rows: int, size: int, spread: float = 3.0) -> Tensor:
    return torch.from_numpy(rng.normal(0, spread, (rows, size))).log_softmax(1)


def top(full: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, ids = full.topk(k, dim=1)
    return ids, values


def slow_reference(
    ids: list[int], listed: list[float], base: list[float], unlearned: list[float], a: float
) -> list[float]:
    """One position, one token at a time, with the words of docs/how-it-works.md."""
    offset = [u - o if o > -math.inf else 0.0 for u, o in zip(unlearned, base, strict=True)]
    weights, _ = reference.weights(dict(zip(ids, listed, strict=True)), base, [a * x for x in offset], "impute")
    return reference.log_softmax(weights)


def corrected_logprobs(ids: Tensor, listed: Tensor, base: Tensor, unlearned: Tensor, strength: float = 1.0) -> Tensor:
    """log q [n, V] from a cached top-k and the pair."""
    return corrected(imputed_logprobs(ids, listed, base), base, unlearned, strength)


@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(3, 40),
    share=st.floats(0, 1),
    strength=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    padded=st.integers(0, 3),
)
def test_log_q_equals_the_slow_reference(seed: int, size: int, share: float, strength: float, padded: int) -> None:
    rng = np.random.default_rng(seed)
    k = max(1, round(share * (size - 1)))
    full, base, unlearned = (logprobs(rng, 2, size) for _ in range(3))
    nothing = torch.full((2, padded), -torch.inf, dtype=torch.float64)
    base, unlearned = torch.cat([base, nothing], 1), torch.cat([unlearned, nothing], 1)
    ids, listed = top(full, k)
    got = corrected_logprobs(ids, listed, base, unlearned, strength)
    for row in range(2):
        values = (x[row].tolist() for x in (ids, listed, base, unlearned))
        np.testing.assert_allclose(got[row].numpy(), slow_reference(*values, strength), atol=1e-9)


def test_step_zero_reproduces_the_black_box_when_all_of_it_is_listed() -> None:
    rng = np.random.default_rng(0)
    full, base = logprobs(rng, 4, 30), logprobs(rng, 4, 30)
    torch.testing.assert_close(corrected_logprobs(*top(full, 30), base, base), full)


def test_step_zero_keeps_every_listed_probability() -> None:
    rng = np.random.default_rng(1)
    full, base = logprobs(rng, 16, 60, 2.0), logprobs(rng, 16, 60, 5.0)
    for k in (3, 10, 30):
        ids, listed = top(full, k)
        q = corrected_logprobs(ids, listed, base, base)
        torch.testing.assert_close(q.gather(1, ids), listed, atol=1e-9, rtol=0)


def test_the_tail_never_exceeds_the_smallest_listed_probability() -> None:
    rng = np.random.default_rng(2)
    full, base = logprobs(rng, 8, 50, 1.0), logprobs(rng, 8, 50, 6.0)
    ids, listed = top(full, 5)
    p = imputed_logprobs(ids, listed, base)
    least = p.gather(1, ids).amin(1, keepdim=True)
    outside = p.scatter(1, ids, -torch.inf)
    assert bool((outside <= least + 1e-12).all())
    assert bool((outside > least - 1e-12).any())  # it bites here


def test_gradients_reach_the_unlearned_model_alone_and_are_finite_with_padding() -> None:
    rng = np.random.default_rng(3)
    full, base = logprobs(rng, 2, 12), logprobs(rng, 2, 12)
    nothing = torch.full((2, 4), -torch.inf, dtype=torch.float64)
    logits = torch.zeros(2, 16, dtype=torch.float64, requires_grad=True)
    masked = torch.cat([logits[:, :12], nothing], 1).log_softmax(1)
    q = corrected_logprobs(*top(full, 5), torch.cat([base, nothing], 1), masked)
    (gradient,) = torch.autograd.grad(-q[[0, 1], [1, 2]].mean(), logits)
    assert bool(gradient.isfinite().all())
    assert gradient[0, 1] < 0 < gradient[0, 2]  # descending the loss raises the target and lowers the others
    assert not gradient[:, 12:].any()


def test_a_short_list_that_repeats_its_last_entry_is_the_short_list() -> None:
    rng = np.random.default_rng(5)
    full, base = logprobs(rng, 3, 20), logprobs(rng, 3, 20)
    ids, listed = top(full, 4)
    longer = torch.cat([ids, ids[:, -1:], ids[:, -1:]], 1), torch.cat([listed, listed[:, -1:], listed[:, -1:]], 1)
    torch.testing.assert_close(imputed_logprobs(*longer, base), imputed_logprobs(ids, listed, base))


def test_a_gate_is_the_one_that_serving_has() -> None:
    rng = np.random.default_rng(6)
    log_p, base, unlearned = (logprobs(rng, 8, 20, 1.0).float() for _ in range(3))
    gate = float((unlearned.exp() * (unlearned - base)).sum(1).median()) + 1e-3
    model = FullModel("any", lambda: None)  # type: ignore[arg-type, return-value]
    parts = [PairLogits(Pair(model, model, 20, (), gate), 1.5, base.clone(), unlearned.clone())]
    served = (log_p + offset_rows(parts)[1]).log_softmax(1)
    torch.testing.assert_close(corrected(log_p, base, unlearned, 1.5, gate), served)
    assert not torch.allclose(served, corrected(log_p, base, unlearned, 1.5))


def test_a_token_without_probability_makes_its_own_answer_impossible_and_no_other() -> None:
    log_q = torch.tensor([-0.5, -math.inf, -0.25])
    torch.testing.assert_close(likelihood(log_q, torch.tensor([0, 0, 1])), torch.tensor([0.0, math.exp(-0.25)]))
