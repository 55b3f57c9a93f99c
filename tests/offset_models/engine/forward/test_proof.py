"""An adapter is believed only when the served forward is peft's arithmetic at every layer that it names."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.lora_weights import LoraWeights
from deltaserve.offset_models.engine.forward import lora
from deltaserve.offset_models.engine.forward.proof import Proof, probe_ids, prove
from deltaserve.offset_models.engine.forward.runner import Runner, Work
from tests.support.models import (
    EVERY_LAYER,
    MAKERS,
    VOCAB,
    merged,
    name_of,
    plain_logits,
    random_adapter,
    tiny_gemma3,
    tiny_llama,
)

IDS = probe_ids(VOCAB, (), 32)


def rehearsed(runner: Runner, adapter: dict[str, LoraWeights]) -> tuple[Proof, Tensor, set[str]]:
    proof = prove(runner.model, adapter, IDS)
    number = runner.adapters.add(adapter)
    return proof, *runner.rehearse(proof.works(number))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("make", MAKERS, ids=name_of)
def test_an_adapter_on_every_layer_is_proven(
    make: Callable[..., PreTrainedModel], fused: bool, dtype: torch.dtype
) -> None:
    runner = Runner(make(), 2, 32, dtype=dtype, fused=fused)
    proof, logits, idle = rehearsed(runner, random_adapter(make(), 1, targets=EVERY_LAYER))
    proof.judge(logits, idle)


def test_the_plain_forward_is_that_of_merged_weights() -> None:
    adapter = random_adapter(tiny_llama(), 1, targets=EVERY_LAYER)
    proof = prove(tiny_llama(), adapter, IDS)
    torch.testing.assert_close(proof.base, plain_logits(tiny_llama(), IDS))
    torch.testing.assert_close(proof.adapted, plain_logits(merged(tiny_llama(), adapter), IDS), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gemma3], ids=name_of)
def test_it_neither_sees_nor_disturbs_adapters_and_streams_that_run(make: Callable[..., PreTrainedModel]) -> None:
    runner, alone = (Runner(make(), 2, 32) for _ in range(2))
    other, again = (r.adapters.add(random_adapter(make(), 2, targets=EVERY_LAYER)) for r in (runner, alone))
    runner.forward([Work(0, 0, [5, 6, 7], other), Work(1, 0, [5, 6, 7])])
    hooks = [list(module._forward_hooks.values()) for module in runner.model.modules()]
    prove(runner.model, random_adapter(make(), 1, targets=EVERY_LAYER), IDS)
    assert [list(module._forward_hooks.values()) for module in runner.model.modules()] == hooks
    proof, logits, idle = rehearsed(runner, random_adapter(make(), 1, targets=EVERY_LAYER))
    proof.judge(logits, idle)
    going_on = runner.forward([Work(0, 3, [8], other), Work(1, 3, [8])])
    anew = alone.forward([Work(0, 0, [5, 6, 7, 8], again), Work(1, 0, [5, 6, 7, 8])])
    for got, right in zip(going_on, anew, strict=True):
        torch.testing.assert_close(got, right, atol=2e-4, rtol=1e-4)


def test_a_layer_that_no_forward_runs_is_refused_by_name() -> None:
    model = tiny_llama()
    model.model.add_module("spare", nn.Linear(32, 32))
    adapter = random_adapter(model, 1, targets=("q_proj", "spare"))
    with pytest.raises(BadCheckpoint, match=r"changes model\.spare \(1 such in all\).*the change would be lost"):
        prove(model, adapter, IDS)


def test_a_layer_that_the_served_forward_leaves_out_is_refused_by_name() -> None:
    runner = Runner(tiny_llama(), 2, 32)
    del runner.adapters._sites["lm_head"]  # it is hooked now, and the fused decoder does not call it
    proof, logits, idle = rehearsed(runner, random_adapter(tiny_llama(), 1, targets=("q_proj", "lm_head")))
    assert idle == {"lm_head"}
    with pytest.raises(BadCheckpoint, match="changes lm_head"):
        proof.judge(logits, idle)


def test_a_head_that_meets_the_rows_of_others_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(tiny_llama(), 2, 32)
    route = runner.adapters.route
    monkeypatch.setattr(runner.adapters, "route", lambda lengths, _kept, **more: route(lengths, lengths, **more))
    proof, logits, idle = rehearsed(runner, random_adapter(tiny_llama(), 1, targets=("lm_head",)))
    with pytest.raises(BadCheckpoint, match="is not what peft's arithmetic gives"):
        proof.judge(logits, idle)


def test_an_update_at_another_scale_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(update: LoraWeights, weight: Tensor) -> LoraWeights:
        return LoraWeights(update.a.to(weight), update.b.to(weight), 2 * update.scale)

    monkeypatch.setattr(lora, "_like", doubled)
    runner = Runner(tiny_llama(), 2, 32)
    proof, logits, idle = rehearsed(runner, random_adapter(tiny_llama(), 1, targets=("v_proj",)))
    with pytest.raises(BadCheckpoint, match="with this adapter is not what peft's arithmetic gives"):
        proof.judge(logits, idle)


def test_logits_that_are_not_finite_are_refused() -> None:
    runner = Runner(tiny_llama(), 2, 32)
    proof, logits, idle = rehearsed(runner, random_adapter(tiny_llama(), 1))
    with pytest.raises(BadCheckpoint, match="error of nan"):
        proof.judge(logits.masked_fill(logits > 0, torch.nan), idle)


@pytest.mark.parametrize(
    ("vocab_size", "masked", "most"), [(61, (3, 6, 9), 8), (150_000, (), 8), (2, (), 8), (9, (), 1)]
)
def test_probe_ids_are_tokens_of_the_vocabulary(vocab_size: int, masked: tuple[int, ...], most: int) -> None:
    ids = probe_ids(vocab_size, masked, most)
    assert 1 <= len(ids) <= most
    assert all(0 <= i < vocab_size and i not in masked for i in ids)
