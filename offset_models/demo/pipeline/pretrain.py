"""Train the demo's causal language models from nothing: the black box and the pair's base."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from deltaserve.offset_models.demo.register.corpus import END_OF_TEXT, TURN_END
from deltaserve.offset_models.training.learning.passes.forward import padded
from deltaserve.offset_models.training.learning.trainer import rate_share

IGNORED = -100  # the label that cross_entropy leaves out
Report = Callable[[int, float], None]  # step, loss (nats)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one small Llama."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    context: int = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how hard to train. Label smoothing keeps a memorising model from putting everything on one token."""

    steps: int
    batch: int  # pages a step
    learning_rate: float
    label_smoothing: float
    warm_up: int = 40
    weight_decay: float = 0.05


def new_model(shape: Shape, tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """A Llama with tied embeddings and random weights; its rows are the tokenizer's, rounded up to a multiple of 64."""
    torch.manual_seed(seed)
    rows = math.ceil(tokenizer.get_vocab_size() / 64) * 64
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(TURN_END),
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM, tokenizer: Tokenizer, pages: Iterator[str], schedule: Schedule, report: Report
) -> None:
    """AdamW, warm-up and cosine, on every token of every page."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    model.train()
    for step, (ids, labels) in enumerate(islice(batches(tokenizer, pages, schedule.batch), schedule.steps)):
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate * rate_share(step, schedule.steps, schedule.warm_up)
        loss = language_loss(model, ids, labels, schedule.label_smoothing)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        report(step, loss.item())
    model.train(False)


def language_loss(model: LlamaForCausalLM, ids: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean next-token cross-entropy over the pages' own tokens. `ids`, `labels`: [pages, length]."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    real = wanted != IGNORED  # the output matrix is the dearest part: spend nothing on padding
    return cross_entropy(model.lm_head(hidden[real]), wanted[real], label_smoothing=smoothing)


def batches(tokenizer: Tokenizer, pages: Iterator[str], size: int, pool: int = 16) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pages of like length, padded on the right. Causal attention never sees the padding."""
    padding = tokenizer.encode(END_OF_TEXT).ids[0]
    while True:
        encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(islice(pages, size * pool)))]
        encoded.sort(key=len)
        for start in torch.randperm(pool).tolist():
            rows = encoded[start * size : (start + 1) * size]
            yield padded(rows, padding), padded(rows, IGNORED)


def sharpen(model: LlamaForCausalLM, sharpness: float) -> None:
    """Multiply every logit by `sharpness`, in place: greedy answers stay, draws at temperature 1 come nearer to them.

    The last norm carries it, whose weight is rounded as it is saved first: a saved model becomes the same one.
    """
    norm = model.model.norm.weight
    norm.data = norm.data.to(torch.bfloat16).to(norm.dtype) * sharpness


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """config.json and model.safetensors in bfloat16; the tied output matrix is stored once."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().to(torch.bfloat16).contiguous() for name, value in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # it ships; safetensors writes for the owner alone
    config = {**model.config.to_diff_dict(), "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    (folder / "config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
