"""A Hugging Face Llama folder as one GGUF file, so that llama.cpp can serve the same model.

`python -m deltaserve.offset_models.demo.pipeline.gguf_export FOLDER OUT.gguf [--type f32|f16|bf16]`.
Needs the `gguf` package. Meant for
models like the demo's: architecture Llama, byte-level BPE with GPT-2's splitting. Everything else is refused.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from deltaserve.offset_models.files.safe_files import read_json

Array = NDArray[Any]

ARCHITECTURE: Final = "llama"
SPLITTING: Final = "gpt-2"  # llama.cpp's name for the expression that ByteLevel(use_regex=True) splits with
TYPES: Final = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
}
_GLOBAL: Final = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_IN_BLOCK: Final = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_NOT_EXPORTED: Final = {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu"}  # only these values


class CannotExport(ValueError):
    """The folder holds something that this exporter would not write faithfully; the message says what."""


def export(folder: Path, out: Path, kind: str = "f32", name: str | None = None) -> None:
    """Write `folder` as `out`. `kind`: a key of TYPES, for the matrices; norms stay float32. Raises CannotExport."""
    config = read_json(folder / "config.json")
    _check_model(config)
    writer = GGUFWriter(out, ARCHITECTURE)
    writer.add_name(name or folder.name)
    _add_shape(writer, config)
    writer.add_file_type(TYPES[kind][1])
    _add_tokenizer(writer, folder, config["vocab_size"])
    for tensor_name, values in _tensors(folder, config):
        _add_tensor(writer, tensor_name, values, TYPES[kind][0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check_model(config: Mapping[str, Any]) -> None:
    if config.get("model_type") != ARCHITECTURE:
        raise CannotExport(f"The model is a {config.get('model_type')}, not a {ARCHITECTURE}.")
    for field, wanted in _NOT_EXPORTED.items():
        if config.get(field, wanted) != wanted:
            raise CannotExport(f"The model has {field} = {config[field]}.")
    if _rope(config).get("rope_type", "default") != "default":
        raise CannotExport("The model scales its rotary positions.")


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """transformers 5 keeps the rotary settings together, 4 had them apart."""
    rope: Mapping[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {"rope_theta": config.get("rope_theta", 10_000.0), **rope}


def _add_shape(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(_rope(config)["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _add_tokenizer(writer: GGUFWriter, folder: Path, rows: int) -> None:
    tokenizer = read_json(folder / "tokenizer.json")
    _check_tokenizer(tokenizer)
    tokens, types = _vocabulary(tokenizer, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(SPLITTING)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    # Newer files hold each merge as a pair, older ones as one string.
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    _add_specials(writer, read_json(folder / "tokenizer_config.json"), tokens)


def _check_tokenizer(tokenizer: Mapping[str, Any]) -> None:
    model, splitter = tokenizer["model"], tokenizer.get("pre_tokenizer") or {}
    byte_level = splitter.get("type") == "ByteLevel" and splitter.get("use_regex", True)
    if model.get("type") != "BPE" or not byte_level or splitter.get("add_prefix_space"):
        raise CannotExport("The tokenizer is no byte-level BPE with GPT-2's splitting.")
    if tokenizer.get("normalizer") is not None or model.get("ignore_merges"):
        raise CannotExport("The tokenizer normalises text or ignores merges.")


def _vocabulary(tokenizer: Mapping[str, Any], rows: int) -> tuple[list[str], list[TokenType]]:
    """Text and type of every row of the embedding; rows that the tokenizer has no id for are marked unused."""
    tokens, types = [f"[PAD{row}]" for row in range(rows)], [TokenType.UNUSED] * rows
    for text, token_id in tokenizer["model"]["vocab"].items():
        tokens[token_id], types[token_id] = text, TokenType.NORMAL
    for added in tokenizer.get("added_tokens") or ():
        tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    return tokens, types


def _add_specials(writer: GGUFWriter, config: Mapping[str, Any], tokens: list[str]) -> None:
    ids = {name: tokens.index(_text(config[f"{name}_token"])) for name in _named(config)}
    if "eos" not in ids:
        raise CannotExport("The tokenizer has no eos_token.")
    # Left out, llama.cpp takes GPT-2's id for either; a first token is never added all the same.
    writer.add_bos_token_id(ids.get("bos", ids["eos"]))
    writer.add_eos_token_id(ids["eos"])
    if "pad" in ids:
        writer.add_pad_token_id(ids["pad"])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if template := config.get("chat_template"):
        writer.add_chat_template(template)


def _named(config: Mapping[str, Any]) -> list[str]:
    return [name for name in ("bos", "eos", "pad") if config.get(f"{name}_token")]


def _text(declared: str | Mapping[str, Any]) -> str:
    return declared if isinstance(declared, str) else str(declared["content"])


def _tensors(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Weights under llama.cpp's names. A tied output matrix is left out: llama.cpp takes the embedding then."""
    heads = {"self_attn.q_proj.weight": config["num_attention_heads"]}
    heads["self_attn.k_proj.weight"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    for file in sorted(folder.glob("*.safetensors")):
        for name, values in load_file(file).items():
            if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                continue
            if name in _GLOBAL:
                yield _GLOBAL[name], values
                continue
            number, _, part = name.removeprefix("model.layers.").partition(".")
            if part not in _IN_BLOCK:
                raise CannotExport(f"The model has a tensor {name}.")
            yield f"blk.{number}.{_IN_BLOCK[part]}", interleaved(values, heads[part]) if part in heads else values


def interleaved(matrix: Tensor, heads: int) -> Tensor:
    """[heads·d, n] with rotary pairs (i, i + d/2) → pairs (2i, 2i + 1), as llama.cpp rotates a Llama's q and k."""
    rows, columns = matrix.shape
    return matrix.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def _add_tensor(writer: GGUFWriter, name: str, values: Tensor, matrices: GGMLQuantizationType) -> None:
    kind = matrices if values.dim() > 1 else GGMLQuantizationType.F32
    array: Array = values.to(torch.float32).contiguous().numpy()
    writer.add_tensor(name, np.asarray(quantize(array, kind)), raw_dtype=kind)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="gguf_export", description="Write a Hugging Face Llama folder as GGUF.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", choices=sorted(TYPES), default="f32", dest="kind")
    given = parser.parse_args(arguments)
    try:
        export(given.folder, given.out, given.kind)
    except CannotExport as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
