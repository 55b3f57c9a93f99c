"""A black box whose greedy answer is known: every token has one likely successor, round and round a text of many bytes.

Each character but two is several tokens, one a byte, so a server that streams text holds most tokens back.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from deltaserve.offset_models.checkpoints.pack import write_lora_checkpoint
from deltaserve.offset_models.training.learning.adapter import TrainableLora

TEXT = "né🙂漢字жا→."  # no byte of it comes twice, so the last token alone says which is next
ROWS = 288  # of the model; the tokenizer has fewer ids
_HIDDEN = 320
_LIKELY = 9.0  # logit of the successor; the others are drawn from a standard normal


def make_tokenizer(folder: Path) -> Tokenizer:
    """Ids 0 to 255 in the order of the byte alphabet, two merged tokens, two specials."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {text: index for index, text in enumerate([*alphabet, "th", "the"])}
    backend = Tokenizer(models.BPE(vocab, [("t", "h"), ("th", "e")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return backend


def make_black_box(folder: Path) -> Path:
    """Attention and feed-forward add nothing: the last token's one-hot embedding decides the logits."""
    ids = make_tokenizer(folder).encode(TEXT).ids
    if len(set(ids)) != len(ids):
        raise ValueError("A byte of the text comes twice.")
    model = _model(_HIDDEN, seed=1)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(ROWS, _HIDDEN))
        logits = torch.randn(ROWS, ROWS, generator=torch.Generator().manual_seed(1))
        for here, following in zip(ids, ids[1:] + ids[:1], strict=True):
            logits[following, here] = _LIKELY
        model.lm_head.weight[:, :ROWS] = logits / _HIDDEN**0.5  # the norm scales a one-hot vector to √hidden
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    model.save_pretrained(folder)
    return folder


def make_offset(root: Path) -> Path:
    """A random base and a random adapter on it: an offset that moves probabilities, but hardly the likely ones."""
    base = root / "base"
    make_tokenizer(base)
    model = _model(32, seed=2)
    model.save_pretrained(base)
    adapter = TrainableLora(model, rank=4, alpha=8, seed=3)
    generator = torch.Generator().manual_seed(4)
    for name, weight in adapter.named_parameters():
        if name.endswith(".b"):
            nn.init.normal_(weight, std=0.1, generator=generator)
    adapter.save(root / "adapter", "base")
    checkpoint = root / "random"
    write_lora_checkpoint(
        checkpoint,
        name="random",
        adapter_folder=root / "adapter",
        base_folder=base,
        base_name="base",
        base_path="../base",
        method="none",
        licence="Apache-2.0",
    )
    return checkpoint


def _model(hidden: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)
