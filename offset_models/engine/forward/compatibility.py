"""Refuses, by their configuration, models that slot batching cannot run."""

from transformers import PreTrainedModel

_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
_UNSUPPORTED_FIELDS = ("attn_logit_softcapping", "num_kv_shared_layers", "use_bidirectional_attention")


def require_supported(model: PreTrainedModel, max_len: int) -> None:
    """Raises ValueError naming what `model` needs and the key/value slots do not have."""
    config = model.config
    name = type(model).__name__
    if config.is_encoder_decoder or config.get_text_config() is not config:
        raise ValueError(f"{name} is not a plain decoder-only text model.")
    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"{name} does not let its attention function be replaced.")
    kinds = set(getattr(config, "layer_types", None) or ()) - _ATTENTION_LAYERS
    if kinds:
        raise ValueError(f"{name} has layers without plain attention: {', '.join(sorted(kinds))}.")
    for field in _UNSUPPORTED_FIELDS:
        if getattr(config, field, None):
            raise ValueError(f"{name} sets {field}, which is not supported.")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in _LENGTH_DEPENDENT_ROPE:
        raise ValueError(f"{name} rotates positions by the length of the batch ({rope['rope_type']}).")
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and max_len > longest:
        raise ValueError(f"max_len {max_len} exceeds the {longest} positions of {name}.")
