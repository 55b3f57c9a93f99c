"""A LoRA starts as nothing, trains alone, and is saved under peft's names with peft's arithmetic."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from deltaserve.errors import BadRequest
from deltaserve.offset_models.checkpoints.peft_files import load_adapter
from deltaserve.offset_models.engine.forward.runner import Runner, Work
from deltaserve.offset_models.training.learning.adapter import TrainableLora
from deltaserve.offset_models.training.learning.passes.forward import logprobs_of
from deltaserve.offset_models.training.learning.passes.initial import last_states
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import new_student
from tests.support.models import tiny_gemma3, tiny_llama

torch.set_num_threads(1)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"block": nn.ModuleDict({"q_proj": nn.Linear(6, 4, bias=False), "norm": nn.Linear(6, 4)})})


def test_an_untrained_adapter_changes_nothing_and_a_trained_one_is_switched_off_by_disabled() -> None:
    model = small_model()
    linear = model["block"]["q_proj"]
    x = torch.randn(3, 6)
    before = linear(x)
    lora = TrainableLora(model, rank=2, alpha=4, seed=0, targets=("q_proj",))
    assert torch.equal(linear(x), before)
    for parameter in lora.parameters():
        parameter.data.normal_()
    assert not torch.allclose(linear(x), before)
    with lora.disabled():
        assert torch.equal(linear(x), before)
    assert not torch.allclose(linear(x), before)


def test_only_the_adapter_is_trainable() -> None:
    model = small_model()
    lora = TrainableLora(model, rank=2, alpha=4, seed=0, targets=("q_proj",))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert sorted(tuple(parameter.shape) for parameter in lora.parameters()) == [(2, 6), (4, 2)]


def test_the_saved_files_rebuild_the_update(tmp_path: Path) -> None:
    model = small_model()
    lora = TrainableLora(model, rank=2, alpha=4, seed=0, targets=("q_proj",))
    for parameter in lora.parameters():
        parameter.data.normal_()
    lora.save(tmp_path, "the-base")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    config = orjson.loads((tmp_path / "adapter_config.json").read_bytes())
    a, b = (tensors[f"base_model.model.block.q_proj.lora_{side}.weight"] for side in "AB")
    x, linear = torch.randn(3, 6), model["block"]["q_proj"]
    expected = x @ linear.weight.T + config["lora_alpha"] / config["r"] * (x @ a.T @ b.T)
    torch.testing.assert_close(linear(x), expected)
    assert config["base_model_name_or_path"] == "the-base"
    assert config["target_modules"] == ["q_proj"]


def test_a_model_without_the_layers_is_refused() -> None:
    with pytest.raises(BadRequest, match="v_proj: name its own by --target"):
        TrainableLora(small_model(), rank=2, alpha=4, seed=0, targets=("v_proj",))


def test_a_target_that_is_no_linear_layer_is_refused_beside_one_that_is() -> None:
    with pytest.raises(BadRequest, match=r"no linear layer named embed_tokens, mlp: .* It has q_proj, norm\."):
        TrainableLora(small_model(), rank=2, alpha=4, seed=0, targets=("q_proj", "mlp", "embed_tokens"))


def test_a_target_that_the_model_does_not_run_is_refused_by_name() -> None:
    model = tiny_llama()
    model.model.add_module("spare", nn.Linear(32, 32))
    with pytest.raises(BadRequest, match=r"does not run model\.spare"):
        new_student(model, TrainingSettings(targets=("q_proj", "spare")))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("make", [tiny_llama, tiny_gemma3], ids=lambda make: make.__name__)
def test_an_adapter_on_the_head_is_served_as_it_was_trained(
    make: Callable[..., PreTrainedModel], tied: bool, tmp_path: Path
) -> None:
    settings = TrainingSettings(rank=2, alpha=4, targets=("q_proj", "lm_head"))
    student = new_student(make(tie_word_embeddings=tied), settings)
    for number, parameter in enumerate(student.named().values()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
    student.save(tmp_path, "the-base")
    ids = [3, 7, 11, 2]
    with torch.no_grad():
        trained = logprobs_of(
            student.unlearned, last_states(student.unlearned, torch.tensor([ids]), settings), settings
        )
    runner = Runner(make(tie_word_embeddings=tied), 2, 32)
    number = runner.adapters.add(load_adapter(tmp_path, runner.model))
    (served,) = runner.forward([Work(0, 0, ids, number, rows=4)])
    torch.testing.assert_close(served.log_softmax(-1), trained, atol=2e-4, rtol=1e-4)


def test_targets_beside_a_whole_copy_are_refused() -> None:
    with pytest.raises(BadRequest, match="leave --target or --full out"):
        TrainingSettings(full=True, targets=("lm_head",))
