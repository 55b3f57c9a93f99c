"""What the exporter writes is what the folder holds; llama.cpp's own reading of it is judged in tests/e2e."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file

from deltaserve.offset_models.demo.pipeline.gguf_export import CannotExport, export, interleaved, main
from tests.support.blackbox import PADDING, make_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


def exported(folder: Path, kind: str = "f32") -> GGUFReader:
    export(folder, folder.parent / "model.gguf", kind)
    return GGUFReader(folder.parent / "model.gguf")


def field(reader: GGUFReader, name: str) -> Any:
    found = reader.get_field(name)
    return None if found is None else found.contents()


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(("kind", "error"), [("f32", 0.0), ("f16", 1e-3), ("bf16", 8e-3)])
def test_matrices_come_back_as_they_were_within_their_type(folder: Path, kind: str, error: float):
    written = {tensor.name: tensor for tensor in exported(folder, kind).tensors}
    weights = load_file(folder / "model.safetensors")
    assert len(written) == len(weights)
    for ours, theirs in (
        ("lm_head.weight", "output.weight"),
        ("model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"),
    ):
        values = _floats(written[theirs])
        np.testing.assert_allclose(values, weights[ours].numpy(), rtol=error, atol=error / 100)
    assert written["output_norm.weight"].tensor_type.name == "F32"
    assert written["blk.0.attn_k.weight"].tensor_type.name == kind.upper()


def test_rotary_halves_become_neighbours():
    rows = torch.arange(8.0)[:, None]  # two heads of four rows
    assert interleaved(rows, heads=2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_tied_output_matrix_is_left_out(folder: Path):
    change(folder / "config.json", tie_word_embeddings=True)
    assert "output.weight" not in {tensor.name for tensor in exported(folder).tensors}


def test_every_row_has_a_token_and_padding_is_marked_unused(folder: Path):
    reader = exported(folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tokens, types = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    assert len(tokens) == len(types) == len(vocabulary) + PADDING == field(reader, "llama.vocab_size")
    assert all(tokens[token_id] == text for text, token_id in vocabulary.items())
    assert types[:3] == [TokenType.CONTROL] * 3
    assert types[-PADDING:] == [TokenType.UNUSED] * PADDING
    assert set(types[3:-PADDING]) == {TokenType.NORMAL}


def test_the_tokenizer_goes_along_with_its_merges_specials_and_template(folder: Path):
    reader = exported(folder)
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert field(reader, "tokenizer.ggml.pre") == "gpt-2"
    assert field(reader, "tokenizer.ggml.merges") == [" ".join(pair) for pair in merges]
    assert field(reader, "tokenizer.ggml.eos_token_id") == 0
    assert field(reader, "tokenizer.ggml.add_bos_token") is False
    assert field(reader, "tokenizer.chat_template") == config["chat_template"]


@pytest.mark.parametrize(
    ("file", "values", "word"),
    [
        ("config.json", {"model_type": "qwen2"}, "qwen2"),
        ("config.json", {"attention_bias": True}, "attention_bias"),
        ("config.json", {"hidden_act": "gelu"}, "hidden_act"),
        ("config.json", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rotary"),
        ("tokenizer.json", {"normalizer": {"type": "NFC"}}, "normalises"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "splitting"),
        ("tokenizer_config.json", {"eos_token": None}, "eos_token"),
    ],
)
def test_what_would_not_be_the_same_model_is_refused(folder: Path, file: str, values: dict[str, Any], word: str):
    change(folder / file, **values)
    with pytest.raises(CannotExport, match=word):
        export(folder, folder.parent / "model.gguf")


def test_an_unknown_tensor_is_refused_by_name(folder: Path):
    extra = {"model.layers.0.self_attn.q_proj.bias": torch.zeros(4)}
    save_file(load_file(folder / "model.safetensors") | extra, folder / "model.safetensors")
    with pytest.raises(CannotExport, match=r"q_proj\.bias"):
        export(folder, folder.parent / "model.gguf")


def test_the_command_writes_the_file_or_says_why_not(folder: Path):
    out = folder.parent / "by_command.gguf"
    main([str(folder), str(out), "--type", "f16"])
    assert out.stat().st_size > 0
    change(folder / "config.json", model_type="qwen2")
    with pytest.raises(SystemExit, match="qwen2"):
        main([str(folder), str(out)])


def _floats(tensor: Any) -> np.ndarray:
    return np.asarray(dequantize(tensor.data, tensor.tensor_type)).reshape(tuple(int(n) for n in tensor.shape[::-1]))
