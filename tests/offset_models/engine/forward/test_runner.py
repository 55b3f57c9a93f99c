"""The runner's packed, slotted batches against one plain forward per sequence."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from deltaserve.offset_models.engine.forward.runner import Runner, Work
from deltaserve.offset_models.engine.forward.slots import KVSlots
from tests.support.amounts import examples
from tests.support.models import FUSED, MAKERS, VOCAB, name_of, plain_logits, random_adapter, tiny_llama

SLOTS, MAX_LEN = 6, 40


WAYS = [(make, False) for make in MAKERS] + [(make, True) for make in FUSED]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{name_of(way[0])}{' in pages' * way[1]}")
def models(request: pytest.FixtureRequest) -> tuple[Runner, PreTrainedModel]:
    make, paged = request.param
    return Runner(make(), SLOTS, MAX_LEN, paged=paged), make()


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def ids(n: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=n)


def test_logits_of_a_whole_prompt_equal_the_plain_model(models: tuple[Runner, PreTrainedModel]) -> None:
    runner, plain = models
    prompt = ids(17)
    (logits,) = runner.forward([Work(0, 0, prompt, rows=17)])
    assert logits.dtype == torch.float32
    assert_close(logits, plain_logits(plain, prompt))


@settings(max_examples=examples(25), deadline=None)
@given(data=st.data())
def test_any_schedule_of_ragged_steps_and_rewinds_equals_the_plain_model(
    models: tuple[Runner, PreTrainedModel], data: st.DataObject
) -> None:
    runner, plain = models
    held: dict[int, list[int]] = {slot: [] for slot in range(SLOTS)}
    for _ in range(data.draw(st.integers(1, 5))):
        batch = []
        for slot in data.draw(st.lists(st.integers(0, SLOTS - 1), min_size=1, unique=True)):
            start = data.draw(st.integers(0, len(held[slot])))
            n = data.draw(st.integers(1, 5)) if start <= MAX_LEN - 5 else 1
            start = min(start, MAX_LEN - n)
            new = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=n, max_size=n))
            held[slot] = held[slot][:start] + new
            batch.append(Work(slot, start, new, rows=data.draw(st.integers(0, n))))
        for work, logits in zip(batch, runner.forward(batch), strict=True):
            wanted = plain_logits(plain, held[work.slot])
            assert_close(logits, wanted[len(wanted) - work.rows :])


def test_rewinding_leaves_no_trace_of_what_was_overwritten(models: tuple[Runner, PreTrainedModel]) -> None:
    runner, plain = models
    runner.forward([Work(2, 0, ids(30, seed=1))])
    kept = ids(30, seed=1)[:7]
    (logits,) = runner.forward([Work(2, 7, [3, 4], rows=2)])
    assert_close(logits, plain_logits(plain, [*kept, 3, 4])[-2:])


def test_a_poisoned_slot_harms_nobody_once_cleared() -> None:
    runner = Runner(tiny_llama(), SLOTS, MAX_LEN)
    with torch.inference_mode():
        runner.kv.layers[0].values[1] = torch.nan
    runner.forward([Work(0, 0, ids(20))])
    batch = [Work(0, 20, [5]), Work(1, 0, [7])]  # one masked call over 21 positions
    first, second = runner.forward(batch)
    assert first.isfinite().all()
    assert second.isnan().any()
    runner.kv.clear([1])
    _, second = runner.forward(batch)
    assert_close(second, plain_logits(tiny_llama(), [7]))


def test_a_copied_prefix_continues_like_the_original(models: tuple[Runner, PreTrainedModel]) -> None:
    runner, plain = models
    prompt = ids(12, seed=3)
    runner.forward([Work(0, 0, prompt)])
    runner.kv.copy(0, 4, 0, 9)
    (logits,) = runner.forward([Work(4, 9, [1, 2], rows=2)])
    assert_close(logits, plain_logits(plain, [*prompt[:9], 1, 2])[-2:])


def test_neighbouring_slots_are_read_without_a_copy_and_scattered_ones_in_one_call() -> None:
    runner = Runner(tiny_llama(), 12, MAX_LEN)
    runner.forward([Work(slot, 0, [1]) for slot in range(3, 11)])
    (group,) = runner._batch.groups
    assert group.slots == slice(3, 11)
    assert group.lines is None
    runner.forward([Work(slot, 0, [1]) for slot in (0, 2, 4, 6)])
    (group,) = runner._batch.groups
    assert group.slots == slice(0, 7)
    assert group.lines.tolist() == [0, 2, 4, 6]
    runner.forward([Work(slot, 0, [1]) for slot in (0, 2, 10)])
    (group,) = runner._batch.groups
    assert group.slots.tolist() == [0, 2, 10]


@pytest.mark.parametrize("make", FUSED, ids=name_of)
def test_the_few_operations_give_what_transformers_gives(make: Callable[..., PreTrainedModel]) -> None:
    prompt, batch = (
        ids(13),
        [Work(0, 13, [7]), Work(2, 0, ids(5, 2), rows=5), Work(3, 13, ids(3, 3), adapter=0, rows=2)],
    )
    answers = []
    for fused in (True, False):
        runner = Runner(make(), SLOTS, MAX_LEN, fused=fused)
        runner.adapters.add(random_adapter(make(), 4, targets=("q_proj", "k_proj", "o_proj", "gate_proj", "down_proj")))
        runner.forward([Work(0, 0, prompt), Work(3, 0, prompt, adapter=0)])
        answers.append(runner.forward_packed(batch))
    assert_close(*answers)


def test_tied_embeddings_stay_one_tensor() -> None:
    model = tiny_llama(tie_word_embeddings=True)
    held = sum(p.nbytes for p in model.parameters())
    runner = Runner(model, 2, MAX_LEN)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(p.nbytes for p in model.parameters()) == held
    wanted = plain_logits(tiny_llama(tie_word_embeddings=True), ids(6))[-1:]
    assert_close(runner.forward([Work(0, 0, ids(6))])[0], wanted)


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [Work(0, 0, [1]), Work(0, 1, [2])],
        [Work(SLOTS, 0, [1])],
        [Work(0, MAX_LEN, [1])],
        [Work(0, -1, [1])],
        [Work(0, 0, [])],
        [Work(0, 0, [1], rows=2)],
        [Work(0, 0, [1], adapter=9)],
    ],
)
def test_malformed_work_is_refused(models: tuple[Runner, PreTrainedModel], batch: list[Work]) -> None:
    with pytest.raises(ValueError):
        models[0].forward(batch)


def test_bfloat16_keeps_its_dtype_in_storage_and_answers_in_float32() -> None:
    runner = Runner(tiny_llama(), 2, MAX_LEN, device="cpu", dtype=torch.bfloat16)
    (logits,) = runner.forward([Work(0, 0, ids(5))])
    assert logits.dtype == torch.float32
    assert runner.kv.layers[0].keys.dtype == torch.bfloat16
    wanted = plain_logits(tiny_llama().bfloat16(), ids(5))[-1:]
    torch.testing.assert_close(logits, wanted, atol=0.3, rtol=0.1)


def test_storage_is_bounded_by_slots_and_length() -> None:
    runner = Runner(tiny_llama(), 2, MAX_LEN)
    before = runner.kv.nbytes
    assert before == 2 * MAX_LEN * 3 * 2 * 2 * 8 * 4  # slots, positions, layers, keys and values, heads, dim, float32
    runner.forward([Work(0, 0, ids(MAX_LEN))])
    assert runner.kv.nbytes == before
    assert runner.nbytes > before


def test_models_that_the_slots_cannot_hold_are_refused_by_name() -> None:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    softcapped = Gemma2ForCausalLM(Gemma2Config(vocab_size=9, intermediate_size=8, head_dim=8, **shape))
    with pytest.raises(ValueError, match="attn_logit_softcapping"):
        Runner(softcapped, 1, 8)
    with pytest.raises(ValueError, match="max_len 257"):
        Runner(tiny_llama(), 1, 257)


def test_reserved_storage_takes_no_memory_until_it_is_written_and_leaves_at_once() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    kv = KVSlots(64, 1024)
    layer = kv.layer(0, torch.zeros(1, 8, 64))
    assert kv.nbytes == 256 << 20
    assert resident() - before < 32 << 20
    layer.states[:16] = 1.0
    assert resident() - before > 48 << 20
    del kv, layer
    assert resident() - before < 32 << 20
