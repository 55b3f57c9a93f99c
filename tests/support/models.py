"""Tiny random decoders and adapters, and the slow way to their logits."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.gemma3 import Gemma3ForCausalLM, Gemma3TextConfig

from deltaserve.offset_models.checkpoints.lora_weights import LoraWeights

VOCAB = 61

_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}


def tiny_llama(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """Random weights, large enough that tokens differ clearly."""
    return _made(LlamaForCausalLM, LlamaConfig(**{**_SHAPE, **changes}), seed)


def tiny_qwen2(seed: int = 0, **changes: object) -> Qwen2ForCausalLM:
    """With biases on q, k and v."""
    return _made(Qwen2ForCausalLM, Qwen2Config(**{**_SHAPE, **changes}), seed)


def tiny_qwen3(seed: int = 0, **changes: object) -> Qwen3ForCausalLM:
    """Normalises q and k; slides over the last 5 positions from its second layer on."""
    sliding = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    return _made(Qwen3ForCausalLM, Qwen3Config(**{**_SHAPE, **sliding, **changes}), seed)


def tiny_mistral(seed: int = 0, **changes: object) -> MistralForCausalLM:
    """Slides over the last 6 positions in every layer."""
    return _made(MistralForCausalLM, MistralConfig(**{**_SHAPE, "sliding_window": 6, **changes}), seed)


def tiny_gemma3(seed: int = 0, **changes: object) -> Gemma3ForCausalLM:
    """Alternates sliding (window 5) and full attention."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3TextConfig(**{**_SHAPE, "sliding_window": 5, "layer_types": kinds, **changes})
    return _made(Gemma3ForCausalLM, config, seed)


def tiny_gemma2(seed: int = 0, **changes: object) -> Gemma2ForCausalLM:
    """Caps its logits softly at 5; its attention has no cap, for which the runner refuses models."""
    caps = {"final_logit_softcapping": 5.0, "attn_logit_softcapping": None}
    return _made(Gemma2ForCausalLM, Gemma2Config(**{**_SHAPE, "sliding_window": 5, **caps, **changes}), seed)


def tiny_granite(seed: int = 0, **changes: object) -> GraniteForCausalLM:
    """Divides its logits by 4."""
    return _made(GraniteForCausalLM, GraniteConfig(**{**_SHAPE, "logits_scaling": 4.0, **changes}), seed)


def tiny_cohere(seed: int = 0, **changes: object) -> CohereForCausalLM:
    """Multiplies its logits by 0.25."""
    return _made(CohereForCausalLM, CohereConfig(**{**_SHAPE, "logit_scale": 0.25, **changes}), seed)


FUSED: list[Callable[..., PreTrainedModel]] = [tiny_llama, tiny_qwen2, tiny_qwen3, tiny_mistral]  # run by fused.py
MAKERS = [*FUSED, tiny_gemma3]
EVERY_LAYER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")


def name_of(make: Callable[..., PreTrainedModel]) -> str:
    """For the ids of parametrised tests."""
    return make.__name__


def _made(kind, config, seed):  # type: ignore[no-untyped-def]
    torch.manual_seed(seed)
    model = kind(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


@torch.inference_mode()
def plain_logits(model: PreTrainedModel, token_ids: Sequence[int]) -> Tensor:
    """[n, V] float32 of one uncached forward."""
    return model(input_ids=torch.tensor([list(token_ids)]), use_cache=False).logits[0].float()


def random_adapter(
    model: PreTrainedModel, seed: int = 0, rank: int = 4, targets: Sequence[str] = ("q_proj", "v_proj", "down_proj")
) -> dict[str, LoraWeights]:
    """An adapter that changes the answers clearly (B is not zero)."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: LoraWeights(
            torch.randn(rank, module.in_features, generator=generator) * 0.2,
            torch.randn(module.out_features, rank, generator=generator) * 0.2,
            scale=1.5,
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(tuple(targets))
    }


def merged(model: PreTrainedModel, adapter: dict[str, LoraWeights]) -> PreTrainedModel:
    """The model with the adapter added into its weights (changes `model`)."""
    with torch.no_grad():
        for name, update in adapter.items():
            model.get_submodule(name).weight += update.scale * update.b @ update.a  # type: ignore[operator]
    return model
