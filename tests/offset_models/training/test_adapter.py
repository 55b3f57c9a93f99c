"""A LoRA starts as nothing, trains alone, and is saved under peft's names with peft's arithmetic."""

from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from offset_models.training.adapter import TrainableLora
from server.errors import BadRequest

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
