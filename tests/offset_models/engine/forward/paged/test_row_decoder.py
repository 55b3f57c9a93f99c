"""Tokens as rows over pages against the plain model: several pages, adapters, windows, parts of a step."""

import random
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from deltaserve.errors import BadCheckpoint, OffsetUnavailable
from deltaserve.offset_models.engine.forward.paged.decoder import BUCKETS
from deltaserve.offset_models.engine.forward.paged.pages import PAGE
from deltaserve.offset_models.engine.forward.proof import probe_ids, prove
from deltaserve.offset_models.engine.forward.runner import Runner, Work
from deltaserve.offset_models.engine.forward.stacked import RowAdapters
from tests.support.models import EVERY_LAYER, FUSED, VOCAB, merged, name_of, plain_logits, random_adapter, tiny_llama


def ids(n: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=n)


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("make", FUSED, ids=name_of)
def test_sequences_of_several_pages_with_adapters_copies_and_rewinds_equal_the_plain_model(
    make: Callable[..., PreTrainedModel],
) -> None:
    runner = Runner(make(), 4, 3 * PAGE, paged=True)
    adapter = runner.adapters.add(random_adapter(make(), 4, targets=EVERY_LAYER))
    plain, adapted = make(), merged(make(), random_adapter(make(), 4, targets=EVERY_LAYER))
    long, other = ids(2 * PAGE + 9, 1), ids(PAGE + 3, 2)
    runner.forward([Work(0, 0, long, rows=0), Work(1, 0, other, adapter, rows=1)])
    runner.kv.copy(0, 2, 0, PAGE + 5)
    runner.kv.copy(1, 3, 0, PAGE)
    got = runner.forward(
        [
            Work(0, len(long), [7], rows=1),
            Work(3, PAGE, [5, 6, 8], adapter, rows=2),
            Work(2, PAGE + 5, [3, 4], rows=2),
            Work(1, 4, [9], adapter, rows=1),
        ]
    )
    wanted = (
        plain_logits(plain, [*long, 7])[-1:],
        plain_logits(adapted, [*other[:PAGE], 5, 6, 8])[-2:],
        plain_logits(plain, [*long[: PAGE + 5], 3, 4])[-2:],
        plain_logits(adapted, [*other[:4], 9])[-1:],
    )
    for each, right in zip(got, wanted, strict=True):
        assert_close(each, right)


def test_a_step_of_more_rows_than_the_largest_number_is_run_in_parts_that_see_each_other() -> None:
    runner = Runner(tiny_llama(), 3, 256, paged=True)
    prompts = [ids(190, 1), ids(240, 2), ids(110, 3)]
    assert sum(len(prompt) for prompt in prompts) > BUCKETS[-1] > 190 + 240
    wanted = (3, 240, 110)
    got = runner.forward([Work(slot, 0, prompts[slot], rows=wanted[slot]) for slot in range(3)])
    for prompt, rows, logits in zip(prompts, wanted, got, strict=True):
        assert_close(logits, plain_logits(tiny_llama(), prompt)[-rows:])


def test_an_answer_does_not_change_with_the_next_step() -> None:
    runner = Runner(tiny_llama(), 2, 40, paged=True)
    first = runner.forward_packed([Work(0, 0, [1, 2], rows=2)])
    before = first.clone()
    runner.forward_packed([Work(1, 0, [3, 4], rows=2)])
    assert torch.equal(first, before)


def test_rows_run_with_their_own_adapter_in_any_order_and_after_another_has_gone() -> None:
    runner = Runner(tiny_llama(), 6, 40, paged=True)
    numbers = [runner.adapters.add(random_adapter(tiny_llama(), seed, targets=EVERY_LAYER)) for seed in (1, 2, 3)]
    models = {None: tiny_llama()} | {
        number: merged(tiny_llama(), random_adapter(tiny_llama(), seed, targets=EVERY_LAYER))
        for number, seed in zip(numbers, (1, 2, 3), strict=True)
    }
    for mixture in ((numbers[2], None, numbers[0], numbers[1], None), (numbers[2], numbers[0], None)):
        batch = [Work(slot, 0, ids(4, slot), adapter, rows=4) for slot, adapter in enumerate(mixture)]
        for work, logits in zip(batch, runner.forward(batch), strict=True):
            assert_close(logits, plain_logits(models[work.adapter], work.token_ids))
        if numbers[1] in mixture:
            runner.adapters.remove(numbers[1])
    with pytest.raises(ValueError, match="No adapter"):
        runner.forward([Work(0, 0, [1], numbers[1])])


def test_an_adapter_is_proven_through_the_rows() -> None:
    runner = Runner(tiny_llama(), 2, 40, paged=True)
    weights = random_adapter(tiny_llama(), 1, targets=EVERY_LAYER)
    proof = prove(runner.model, weights, probe_ids(VOCAB, (), 32))
    running = runner.forward_packed([Work(0, 0, [5, 6, 7])])
    number = runner.adapters.add(weights)
    logits, idle = runner.rehearse(proof.works(number))
    proof.judge(logits, idle)
    assert_close(runner.forward_packed([Work(0, 2, [7])]), running)  # what streams hold is not touched


def test_an_adapter_that_reaches_the_rows_of_others_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowAdapters, "add_own", lambda _rows, output, inner, stack: output.addmm_(inner, stack.b))
    runner = Runner(tiny_llama(), 2, 40, paged=True)
    proof = prove(runner.model, random_adapter(tiny_llama(), 1), probe_ids(VOCAB, (), 32))
    number = runner.adapters.add(random_adapter(tiny_llama(), 1))
    logits, _ = runner.rehearse(proof.works(number))
    with pytest.raises(BadCheckpoint, match="without it is not what peft's arithmetic gives"):
        proof.judge(logits, set())


def test_a_layer_that_the_rows_leave_out_is_named() -> None:
    runner = Runner(tiny_llama(), 2, 40, paged=True)
    del runner.adapters._sites["lm_head"]
    weights = random_adapter(tiny_llama(), 1, targets=("q_proj", "lm_head"))
    number = runner.adapters.add(weights)
    assert runner.rehearse([Work(0, 0, [1, 2], number)])[1] == {"lm_head"}


def test_tokens_that_find_no_memory_are_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(tiny_llama(), 2, 200, paged=True)
    kept = runner.forward_packed([Work(0, 0, ids(5))])
    monkeypatch.setattr(runner.kv, "_take", lambda: (_ for _ in ()).throw(OffsetUnavailable("No memory is left.")))
    with pytest.raises(OffsetUnavailable, match="No memory"):
        runner.forward_packed([Work(0, 4, ids(5)[4:]), Work(1, 0, [1])])
    assert_close(runner.forward_packed([Work(0, 4, ids(5)[4:])]), kept)
