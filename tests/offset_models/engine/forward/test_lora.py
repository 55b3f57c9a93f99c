"""Mixed batches of base and adapter rows against merged weights, and what is refused of a peft folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.lora_weights import LoraWeights
from deltaserve.offset_models.checkpoints.peft_files import load_adapter
from deltaserve.offset_models.engine.forward.runner import Runner, Work
from tests.support.models import merged, plain_logits, random_adapter, tiny_llama

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 4,
    "lora_alpha": 6,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "use_dora": False,
    "lora_dropout": 0.1,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "init_lora_weights": True,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes an adapter for `tiny_llama` in peft's layout; its rank and targets follow the configuration."""

    def write(**changes: Any) -> Path:
        config = CONFIG | changes
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        rank = config["r"] if isinstance(config["r"], int) else 4
        tensors = {}
        for name, update in random_adapter(tiny_llama(), 3, rank, ("q_proj", "v_proj")).items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = update.a
            tensors[f"base_model.model.{name}.lora_B.weight"] = update.b
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        return tmp_path

    return write


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def with_scale(weights: dict[str, LoraWeights], scale: float) -> dict[str, LoraWeights]:
    return {name: LoraWeights(update.a, update.b, scale) for name, update in weights.items()}


def test_rows_of_one_batch_run_with_their_own_adapter_or_none() -> None:
    runner = Runner(tiny_llama(), 5, 32)
    first, second = (runner.adapters.add(random_adapter(tiny_llama(), seed)) for seed in (1, 2))
    prompt = [5, 9, 2, 7]
    batch = [Work(slot, 0, prompt, adapter, rows=4) for slot, adapter in enumerate((second, None, first, None, second))]
    wanted = {
        None: plain_logits(tiny_llama(), prompt),
        first: plain_logits(merged(tiny_llama(), random_adapter(tiny_llama(), 1)), prompt),
        second: plain_logits(merged(tiny_llama(), random_adapter(tiny_llama(), 2)), prompt),
    }
    for work, logits in zip(batch, runner.forward(batch), strict=True):
        torch.testing.assert_close(logits, wanted[work.adapter], atol=2e-4, rtol=1e-4)


def test_a_removed_adapter_leaves_the_base_and_the_other_adapters_as_they_were() -> None:
    runner = Runner(tiny_llama(), 2, 32)
    first = runner.adapters.add(random_adapter(tiny_llama(), 1))
    held = runner.adapters.nbytes
    second = runner.adapters.add(random_adapter(tiny_llama(), 2, targets=("o_proj",)))
    before = runner.forward([Work(0, 0, [1, 2], first)])[0]
    runner.adapters.remove(second)
    assert runner.adapters.nbytes == held
    torch.testing.assert_close(runner.forward([Work(0, 0, [1, 2], first)])[0], before, atol=0, rtol=0)
    with pytest.raises(ValueError, match="No adapter"):
        runner.forward([Work(0, 0, [1, 2], second)])
    runner.adapters.remove(first)
    assert runner.adapters.nbytes == 0
    assert not any(module._forward_hooks for module in runner.model.modules() if isinstance(module, nn.Linear))


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 6 / 4),
        ({"use_rslora": True}, 6 / 2),
        ({"alpha_pattern": {"self_attn.[qv]_proj": 10}}, 10 / 4),
        ({"target_modules": r".*self_attn\.(q|v)_proj"}, 6 / 4),
    ],
)
def test_scale_follows_the_configuration(folder: Callable[..., Path], changes: dict[str, Any], scale: float) -> None:
    loaded = load_adapter(folder(**changes), tiny_llama())
    wanted = with_scale(random_adapter(tiny_llama(), 3, 4, ("q_proj", "v_proj")), scale)
    assert {name: update.scale for name, update in loaded.items()} == dict.fromkeys(wanted, scale)
    for name, update in wanted.items():
        torch.testing.assert_close(loaded[name].a, update.a)
        torch.testing.assert_close(loaded[name].b, update.b)


def test_a_rank_pattern_changes_rank_and_scale_of_its_layers(folder: Callable[..., Path]) -> None:
    path = folder(rank_pattern={"layers.1.self_attn.q_proj": 2})
    name = "model.layers.1.self_attn.q_proj"

    def shrink(tensors: dict[str, Tensor]) -> None:
        for part, cut in (("A", (slice(2),)), ("B", (slice(None), slice(2)))):
            key = f"base_model.model.{name}.lora_{part}.weight"
            tensors[key] = tensors[key][cut].contiguous()

    edit(path, shrink)
    loaded = load_adapter(path, tiny_llama())
    assert (loaded[name].a.shape[0], loaded[name].scale) == (2, 6 / 2)
    assert loaded["model.layers.0.self_attn.q_proj"].scale == 6 / 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("layers_to_transform", [0]),
        ("layers_to_transform", 0),
        ("layer_replication", [[0, 2], [1, 3]]),
        ("exclude_modules", ["v_proj"]),
        ("trainable_token_indices", [3]),
        ("target_parameters", ["experts.gate_up_proj"]),
        ("alora_invocation_tokens", [1, 2]),
        ("bias", "lora_only"),
        ("init_lora_weights", "pissa"),
        ("lora_bias", True),
        ("a_field_of_tomorrow", {"x": 1}),
        ("peft_type", "IA3"),
        ("r", 0),
        ("lora_alpha", "six"),
        ("target_modules", None),
        ("target_modules", ["nowhere"]),
        ("rank_pattern", {"q_proj": -1}),
        ("alpha_pattern", ["q_proj"]),
    ],
)
def test_what_is_not_supported_is_refused_by_the_name_of_its_field(
    folder: Callable[..., Path], field: str, value: object
) -> None:
    with pytest.raises(BadCheckpoint, match=field):
        load_adapter(folder(**{field: value}), tiny_llama())


A_KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(A_KEY), "lacks"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda t: t.update({A_KEY: torch.zeros(3, 32)}), "other shapes than rank 4"),
        (lambda t: t.update({A_KEY: torch.full((4, 32), torch.nan)}), "not finite"),
        (lambda t: t.update({A_KEY: torch.ones(4, 32, dtype=torch.int32)}), "q_proj is stored as int32, not as floats"),
        (lambda t: t.update({A_KEY.replace("lora_A", "lora_magnitude_vector"): torch.ones(32)}), "unexpected"),
        (lambda t: t.update({A_KEY.replace(".weight", ".other.weight"): t.pop(A_KEY)}), "lacks"),
    ],
)
def test_tensors_must_fit_the_base_exactly(
    folder: Callable[..., Path], change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    path = folder()
    edit(path, change)
    with pytest.raises(BadCheckpoint, match=message):
        load_adapter(path, tiny_llama())


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_and_broken_files_are_refused_by_name(folder: Callable[..., Path], file: str) -> None:
    path = folder() / file
    path.write_bytes(b"\x00broken")
    with pytest.raises(BadCheckpoint, match=file):
        load_adapter(path.parent, tiny_llama())
    path.unlink()
    with pytest.raises(BadCheckpoint, match=file):
        load_adapter(path.parent, tiny_llama())


HEAD = "base_model.model.lm_head"


def with_head(path: Path, **more: Tensor) -> Path:
    """A folder's adapter on the head too, as peft saves it: with the base's own head beside the update."""
    config = json.loads((path / "adapter_config.json").read_text())
    config["target_modules"] = ["q_proj", "v_proj", "lm_head"]
    (path / "adapter_config.json").write_text(json.dumps(config))
    (update,) = random_adapter(tiny_llama(), 3, 4, ("lm_head",)).values()
    halves = {f"{HEAD}.lora_A.weight": update.a, f"{HEAD}.lora_B.weight": update.b}
    edit(path, lambda tensors: tensors.update(halves | more))
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_bases_own_head_that_peft_saves_along_is_passed_over(
    folder: Callable[..., Path], dtype: torch.dtype
) -> None:
    base = tiny_llama()
    own = base.lm_head.weight.detach().to(dtype).contiguous()
    table = base.model.embed_tokens.weight.detach().to(dtype).contiguous()
    path = with_head(folder())
    edit(
        path,
        lambda t: t.update({f"{HEAD}.base_layer.weight": own, "base_model.model.model.embed_tokens.weight": table}),
    )
    assert "lm_head" in load_adapter(path, base)


def test_a_head_in_the_file_that_is_not_the_bases_is_refused_by_name(folder: Callable[..., Path]) -> None:
    other = tiny_llama(1).lm_head.weight.detach().contiguous()
    path = with_head(folder())
    edit(path, lambda tensors: tensors.update({f"{HEAD}.base_layer.weight": other}))
    with pytest.raises(
        BadCheckpoint, match=r"of its own for the base \(base_model\.model\.lm_head\.base_layer\.weight\)"
    ):
        load_adapter(path, tiny_llama())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "embed_tokens"], r"name model\.embed_tokens, a layer of the kind Embedding"),
        (["q_proj", "input_layernorm"], r"name model\.layers\.0\.input_layernorm, a layer of the kind LlamaRMSNorm"),
        (".*self_attn.*", r"name model\.layers\.0\.self_attn, a layer of the kind LlamaAttention"),
    ],
)
def test_a_target_that_is_no_linear_layer_is_refused_by_name(
    folder: Callable[..., Path], targets: object, message: str
) -> None:
    with pytest.raises(BadCheckpoint, match=message):
        load_adapter(folder(target_modules=targets), tiny_llama())


def test_a_conv1d_is_refused_by_name(folder: Callable[..., Path]) -> None:
    base = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=32, n_layer=1, n_head=4))
    for targets in (["c_attn"], "all-linear"):
        with pytest.raises(BadCheckpoint, match=r"name transformer\.h\.0\.attn\.c_attn, a layer of the kind Conv1D"):
            load_adapter(folder(target_modules=targets), base)


def test_all_linear_is_every_linear_layer_but_the_head_however_it_is_written(folder: Callable[..., Path]) -> None:
    path = folder(target_modules="All-Linear")
    with pytest.raises(BadCheckpoint, match="lacks") as caught:
        load_adapter(path, tiny_llama())
    assert f"({2 * 3 * 5} such in all)" in caught.value.message  # A and B of the five others in each of three layers
    assert "lm_head" not in caught.value.message


def test_a_head_tied_to_the_embedding_by_the_adapter_is_refused(folder: Callable[..., Path]) -> None:
    path = with_head(folder(ensure_weight_tying=True))
    assert "lm_head" in load_adapter(path, tiny_llama())  # nothing is tied here
    with pytest.raises(BadCheckpoint, match="ensure_weight_tying"):
        load_adapter(path, tiny_llama(tie_word_embeddings=True))


def test_files_nested_too_deeply_are_refused(folder: Callable[..., Path]) -> None:
    path = folder()
    (path / "adapter_config.json").write_text('{"r": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(BadCheckpoint, match=r"adapter_config\.json is not JSON"):
        load_adapter(path, tiny_llama())
