"""An adapter on lm_head meets the rows whose logits are wanted, and no others, whichever way the base is run."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deltaserve.offset_models.checkpoints.lora_weights import LoraWeights
from deltaserve.offset_models.engine.forward.lora import AdaptedLinear, Routing
from deltaserve.offset_models.engine.forward.runner import Runner, Work
from tests.support.models import MAKERS, merged, name_of, plain_logits, random_adapter, tiny_gemma3, tiny_llama

SITES = ("q_proj", "down_proj", "lm_head")
LONG, SHORT = [3, 7, 11, 2, 9, 30], [8, 1, 4]


def untied(make: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make(tie_word_embeddings=False)


def peft_logits(model: PreTrainedModel, adapter: dict[str, LoraWeights], ids: Sequence[int]) -> Tensor:
    """peft's arithmetic, W·x + (alpha/r)·B·(A·x), layer by layer; what tied layers share is left alone."""

    def add(update: LoraWeights) -> Callable[..., Tensor]:
        return lambda _module, inputs, output: output + update.scale * inputs[0] @ update.a.T @ update.b.T

    handles = [model.get_submodule(name).register_forward_hook(add(update)) for name, update in adapter.items()]
    try:
        return plain_logits(model, ids)
    finally:
        for handle in handles:
            handle.remove()


def assert_close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("make", MAKERS, ids=name_of)
def test_rows_of_one_batch_meet_their_own_heads(make: Callable[..., PreTrainedModel], fused: bool) -> None:
    runner = Runner(untied(make), 5, 32, fused=fused)
    adapters = [random_adapter(untied(make), seed, targets=SITES) for seed in (1, 2)]
    first, second = (runner.adapters.add(adapter) for adapter in adapters)
    wanted = {
        None: [plain_logits(untied(make), ids) for ids in (LONG, SHORT)],
        first: [plain_logits(merged(untied(make), adapters[0]), ids) for ids in (LONG, SHORT)],
        second: [plain_logits(merged(untied(make), adapters[1]), ids) for ids in (LONG, SHORT)],
    }
    batch = [
        Work(0, 0, LONG, second, rows=3),
        Work(1, 0, SHORT, None, rows=1),
        Work(2, 0, SHORT, first, rows=0),
        Work(3, 0, LONG, first, rows=2),
        Work(4, 0, SHORT, second, rows=3),
    ]
    for work, logits in zip(batch, runner.forward(batch), strict=True):
        whole = wanted[work.adapter][work.token_ids is SHORT]
        assert_close(logits, whole[len(whole) - work.rows :])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("make", [tiny_llama, tiny_gemma3], ids=name_of)
def test_a_tied_head_is_adapted_and_the_input_embedding_is_not(
    make: Callable[..., PreTrainedModel], fused: bool
) -> None:
    adapter = random_adapter(make(tie_word_embeddings=True), 1, targets=SITES)
    runner = Runner(make(tie_word_embeddings=True), 2, 32, fused=fused)
    number = runner.adapters.add(adapter)
    adapted, plain = runner.forward([Work(0, 0, LONG, number, rows=4), Work(1, 0, LONG, None, rows=4)])
    assert_close(adapted, peft_logits(make(tie_word_embeddings=True), adapter, LONG)[-4:])
    assert_close(plain, plain_logits(make(tie_word_embeddings=True), LONG)[-4:])


@pytest.mark.parametrize("fused", [True, False])
def test_a_removed_head_adapter_leaves_the_plain_head(fused: bool) -> None:
    runner = Runner(tiny_llama(), 2, 32, fused=fused)
    before = runner.forward([Work(0, 0, LONG, rows=2)])[0]
    held = runner.adapters.nbytes
    adapter = runner.adapters.add(random_adapter(tiny_llama(), 1, targets=("lm_head",)))
    assert runner.adapters.adapts_head and runner.adapters.nbytes > held
    runner.adapters.remove(adapter)
    assert not runner.adapters.adapts_head and runner.adapters.nbytes == held
    torch.testing.assert_close(runner.forward([Work(0, 0, LONG, rows=2)])[0], before, atol=0, rtol=0)


def test_without_an_adapter_on_the_head_nothing_is_routed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(tiny_llama(), 2, 32)
    adapter = runner.adapters.add(random_adapter(tiny_llama(), 1, targets=("q_proj",)))
    asked: list[Any] = []
    route = runner.adapters.route

    def listening(lengths: Any, kept: Any = (), **more: Any) -> None:
        asked.append(kept)
        route(lengths, kept, **more)

    monkeypatch.setattr(runner.adapters, "route", listening)
    runner.forward([Work(0, 0, LONG, adapter), Work(1, 0, SHORT)])
    assert asked == [()]


def test_a_layer_that_meets_other_rows_than_the_batchs_is_an_error_and_no_guess() -> None:
    site = AdaptedLinear("experts.0", nn.Linear(4, 3))
    site.put(0, {"experts.0": LoraWeights(torch.ones(1, 4), torch.ones(3, 1), 1.0)})
    site.routing = Routing((), 5)
    site.linear(torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"experts\.0 met 2 rows where 5 were to come"):
        site.linear(torch.ones(2, 4))


def test_an_adapter_that_cannot_be_installed_whole_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(tiny_llama(), 2, 32)
    adapter = random_adapter(tiny_llama(), 1, targets=("q_proj", "lm_head"))
    with pytest.raises(ValueError, match=r"model\.norm is not a linear layer"):
        runner.adapters.add(adapter | {"model.norm": LoraWeights(torch.ones(1, 32), torch.ones(32, 1), 1.0)})
    assert runner.adapters.nbytes == 0

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(runner.adapters._sites["lm_head"], "put", full)
    with pytest.raises(MemoryError):
        runner.adapters.add(adapter)
    assert runner.adapters.nbytes == 0 and not runner.adapters.adapts_head
