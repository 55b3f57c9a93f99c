"""Rows on a device answer like numpy rows; sums and masks follow the formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.offset_rows import DeviceRow, PairLogits, device_rows, make_rows, offset_rows
from deltaserve.offset_models.engine.pair import FullModel, Pair
from deltaserve.server.decoding.protocols import NO_IDS, Floats
from deltaserve.server.decoding.rows import NumpyRow
from tests.support.amounts import examples

V, WIDTH = 30, 40


def pair(vocab_size: int = V, masked_ids: tuple[int, ...] = (), gate_nats: float = 0.0) -> Pair:
    def unused() -> None:
        raise NotImplementedError

    model = FullModel("any", unused)  # type: ignore[arg-type]
    return Pair(model, model, vocab_size, masked_ids, gate_nats)


def logits(seed: int, rows: int = 3, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 3


def rows_of(seed: int) -> tuple[NumpyRow, DeviceRow]:
    parts = [PairLogits(pair(masked_ids=(4,)), 1.3, logits(seed, 1), logits(seed + 1, 1))]
    base, offset = offset_rows(parts)
    return NumpyRow(base[0].numpy(), offset[0].numpy()), DeviceRow(base[0], offset[0])


def test_several_offsets_add_up_over_the_first_pair_base() -> None:
    a, b, c = logits(1), logits(2), logits(3)
    narrow = logits(4, width=35)
    base, offset = offset_rows([PairLogits(pair(), 0.5, a, b), PairLogits(pair(), -2.0, c, narrow)])
    assert base.shape == (3, 35)
    real = [t[:, :V].double().log_softmax(-1) for t in (a, b, c, narrow)]
    torch.testing.assert_close(base[:, :V].double(), real[0], atol=1e-5, rtol=0)
    wanted = 0.5 * (real[1] - real[0]) - 2.0 * (real[3] - real[2])
    torch.testing.assert_close(offset[:, :V].double(), wanted, atol=1e-5, rtol=0)
    assert (base[:, V:] == -torch.inf).all()
    assert (offset[:, V:] == 0).all()


def test_pairs_that_share_a_base_may_share_its_logits() -> None:
    a, b, c = logits(1), logits(2), logits(3)
    parts = [PairLogits(pair(masked_ids=(2,)), 1.0, a, b), PairLogits(pair(masked_ids=(2,)), 1.0, a, c)]
    _, together = offset_rows(parts)
    alone = [offset_rows([PairLogits(pair(masked_ids=(2,)), 1.0, logits(1), t)])[1] for t in (logits(2), logits(3))]
    torch.testing.assert_close(together, alone[0] + alone[1])


def test_a_gate_leaves_only_the_rows_where_the_members_differ() -> None:
    a, b = logits(1, 6), logits(2, 6)
    b[::2] = a[::2] + 0.1 * logits(3, 3)  # every other row hardly differs
    real = [t[:, [i for i in range(V) if i != 2]].double().log_softmax(-1) for t in (a, b)]
    divergences = (real[1].exp() * (real[1] - real[0])).sum(-1)
    gate = float(divergences.sort().values[2:4].mean())
    gated, open_ = pair(masked_ids=(2,), gate_nats=gate), pair(masked_ids=(2,))
    _, offset = offset_rows([PairLogits(gated, 2.0, a.clone(), b.clone())])
    _, whole = offset_rows([PairLogits(open_, 2.0, a.clone(), b.clone())])
    assert (divergences >= gate).tolist() == [False, True] * 3
    assert (offset[::2] == 0).all()
    torch.testing.assert_close(offset[1::2], whole[1::2])
    _, behind = offset_rows([PairLogits(gated, 2.0, a.clone(), b.clone(), gated=False)])
    torch.testing.assert_close(behind, whole)


def test_a_row_that_is_not_finite_passes_no_gate_unseen() -> None:
    a, b = logits(1), logits(2)
    b[1, 7] = torch.nan
    made = make_rows(*offset_rows([PairLogits(pair(gate_nats=60.0), 1.0, a, b)]))
    assert [isinstance(row, OffsetUnavailable) for row in made] == [False, True, False]


@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 1000),
    explicit=st.lists(st.integers(0, WIDTH - 1), unique=True, max_size=WIDTH),
    log_scale=st.one_of(st.floats(-20, 3), st.just(-math.inf)),
    log_cap=st.one_of(st.floats(-12, 0), st.just(0.0)),
    mass=st.floats(1e-6, 1.0),
    temperature=st.floats(0.2, 3),
)
def test_a_device_row_answers_like_a_numpy_row(
    seed: int, explicit: list[int], log_scale: float, log_cap: float, mass: float, temperature: float
) -> None:
    host, device = rows_of(seed)
    ids = np.array(explicit, np.int64)
    assert host.vocab_size == device.vocab_size
    np.testing.assert_array_equal(host.offset(ids), device.offset(ids))
    np.testing.assert_array_equal(host.base(ids), device.base(ids))
    if len(set(explicit)) < V - 3:
        for cap in (log_cap, math.inf):
            assert device.tail_scale(ids, mass, cap) == pytest.approx(host.tail_scale(ids, mass, cap), abs=1e-3)
    here, there = host.tail(ids, log_scale, log_cap), device.tail(ids, log_scale, log_cap)
    assert there.best()[0] == here.best()[0]
    assert there.best()[1] == pytest.approx(here.best()[1], abs=1e-5)
    assert there.max_offset() == here.max_offset()
    assert there.log_weight(temperature) == pytest.approx(here.log_weight(temperature), abs=1e-4)
    np.testing.assert_allclose(there.weights(), here.weights(), atol=1e-5)


def both_rows(base: Floats) -> tuple[NumpyRow, DeviceRow]:
    return NumpyRow(base, np.zeros(base.size)), DeviceRow(torch.from_numpy(base), torch.zeros(base.size).double())


@pytest.mark.parametrize("heavy", [0, 3, 200, 9000])
@pytest.mark.parametrize("mass", [1e-4, 0.3])
def test_a_capped_tail_holds_the_mass_that_the_list_leaves_out(heavy: int, mass: float) -> None:
    """However many ids meet the cap: from none to nearly all of a vocabulary."""
    weights = np.random.default_rng(heavy).exponential(size=10_000)
    weights[:heavy] *= 1e5
    listed, log_cap = np.array([0, 5000]), math.log(mass / min(heavy + 50, 9500))
    for row in both_rows(np.log(weights / weights.sum())):
        tail = row.tail(listed, row.tail_scale(listed, mass, log_cap), log_cap)
        assert math.exp(tail.log_weight(1.0)) == pytest.approx(mass, rel=1e-5)  # a cap in single precision
        assert tail.weights().max() <= log_cap


def test_a_mass_that_the_cap_does_not_allow_puts_every_id_at_it() -> None:
    base = np.log(np.arange(1, 10_001) / 50_005_000)
    for row in both_rows(base):
        tail = row.tail(NO_IDS, row.tail_scale(NO_IDS, 0.9, math.log(1e-5)), math.log(1e-5))
        np.testing.assert_allclose(tail.weights(), math.log(1e-5), rtol=1e-6)


def test_a_cap_is_never_exceeded_by_rounding() -> None:
    base = torch.tensor([math.log(0.9), math.log(0.1)])
    cap = math.log(0.3)
    _, weight = DeviceRow(base, torch.zeros(2)).tail(np.empty(0, np.int64), 0.0, cap).best()
    assert weight <= cap


def test_rows_that_are_not_finite_become_errors_one_by_one() -> None:
    base, offset = offset_rows([PairLogits(pair(), 1.0, logits(1, 4), logits(2, 4))])
    base[1, 3] = torch.nan
    offset[2, 5] = torch.inf
    for made in (make_rows(base, offset), device_rows(base, offset)):
        assert [isinstance(row, OffsetUnavailable) for row in made] == [False, True, True, False]
