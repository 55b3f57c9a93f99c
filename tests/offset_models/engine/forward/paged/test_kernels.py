"""The Triton kernels against plain torch: on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1 from the start)."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

pytest.importorskip("triton", reason="the kernels need triton, which comes with torch for GPUs")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("the kernels need a GPU, or TRITON_INTERPRET=1", allow_module_level=True)

from deltaserve.offset_models.engine.forward.fused import plain_gate
from deltaserve.offset_models.engine.forward.paged.inputs import RowInputs, Rows, RowTensors
from deltaserve.offset_models.engine.forward.paged.launch import (
    KernelRowAdapters,
    kernel_attention,
    kernel_gate,
    parts_of,
)
from deltaserve.offset_models.engine.forward.paged.pages import PAGE, PagedKV
from deltaserve.offset_models.engine.forward.paged.reference import plain_attention
from deltaserve.offset_models.engine.forward.runner import Runner
from deltaserve.offset_models.engine.forward.stacked import JoinedUpdate, RowAdapters, Stack
from tests.support.models import FUSED, name_of, tiny_llama

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTH = 4 * PAGE - 6


def prepared(make: Callable[..., PreTrainedModel], dtype: torch.dtype) -> tuple[Runner, RowTensors, Tensor]:
    """Rows at the start, in the midst and at the end of full slots; random states of theirs; one row to fill up."""
    torch.manual_seed(0)
    runner = Runner(make(), 3, LENGTH, DEVICE, dtype, paged=True)
    assert isinstance(runner.kv, PagedKV) and runner._fused is not None
    for slot in range(3):
        runner.kv.reserve(slot, 0, LENGTH)
        for name in runner.kv.table[slot]:
            runner.kv.page(int(name)).normal_()
    inputs = RowInputs(runner.kv, 5, runner.model.device)
    inputs.load(Rows([1, 2, 3, 4], [LENGTH - 1, PAGE, 0, PAGE - 1], [0, 1, 2, 2], [-1] * 4))
    heads = runner._fused.heads + 2 * runner._fused.kv_heads
    return runner, inputs.first(5), torch.randn(5, heads * runner._fused.head_dim, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("make", FUSED, ids=name_of)
def test_kernels_store_and_attend_as_plain_torch_does(make: Callable[..., PreTrainedModel], dtype: torch.dtype) -> None:
    runner, rows, states = prepared(make, dtype)
    decoder = runner._fused
    most = {torch.float32: 1e-5, torch.float16: 5e-3}[dtype]
    wanted = plain_attention(decoder, rows)(decoder.blocks[1], states)
    stored = [runner.kv.page(int(name)).clone() for name in runner.kv.table[:3].reshape(-1)]
    got = kernel_attention(decoder, rows)(decoder.blocks[1], states)
    torch.testing.assert_close(got[:4], wanted[:4], atol=most, rtol=most)
    for name, page in zip(runner.kv.table[:3].reshape(-1), stored, strict=True):
        torch.testing.assert_close(runner.kv.page(int(name)), page, atol=most, rtol=most)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter, about numbers that are none
@pytest.mark.parametrize("part", ["keys", "values"])
def test_what_is_not_a_number_within_reach_reaches_the_row_and_beyond_it_nobody(part: str) -> None:
    runner, rows, states = prepared(tiny_llama, torch.float32)
    runner.kv.page(int(runner.kv.table[0, 1]))[1, :, int(part == "values")] = torch.nan  # a whole page of row 0's slot
    runner.kv.page(int(runner.kv.table[1, 1]))[1, 1:] = torch.nan  # behind the position of row 1
    got = kernel_attention(runner._fused, rows)(runner._fused.blocks[1], states)
    assert got[0].isnan().all()
    assert got[1:4].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_rows_get_what_their_own_adapters_make_and_others_stay_to_the_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    updates = {
        number: JoinedUpdate(torch.zeros(1, rank, device=DEVICE), torch.randn(rank, 150, device=DEVICE, dtype=dtype))
        for number, rank in ((3, 40), (7, 8), (9, 24))
    }
    stack = Stack.of(updates)
    numbers = torch.tensor([7, -1, 3, 9, 7] * 4, device=DEVICE)
    inner = torch.randn(20, 72, device=DEVICE, dtype=dtype)
    inner[1] = torch.nan  # of a row without an adapter
    before = torch.randn(20, 150, device=DEVICE, dtype=dtype)
    wanted, got = before.clone(), before.clone()
    RowAdapters(numbers).add_own(wanted, inner.clone(), stack)
    KernelRowAdapters(numbers).add_own(got, inner, stack)
    torch.testing.assert_close(got, wanted, atol=1e-2 if dtype == torch.float16 else 1e-5, rtol=1e-2)
    assert torch.equal(got[1::5], before[1::5])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # exp(100)
def test_gates_are_those_of_plain_torch() -> None:
    runner, _, _ = prepared(tiny_llama, torch.float32)
    block = runner._fused.blocks[0]
    states = 9 * torch.randn(3, 2 * 1100, device=DEVICE)
    states[0, 0], states[0, 1] = 100.0, -100.0
    torch.testing.assert_close(kernel_gate(block, states), plain_gate(block, states), atol=1e-5, rtol=1e-5)
    assert isinstance(block.activation, type(ACT2FN["silu"]))


def test_few_rows_are_split_into_many_parts_and_many_rows_into_few() -> None:
    assert [parts_of(n) for n in (2, 64, 128, 512)] == [32, 16, 8, 4]
