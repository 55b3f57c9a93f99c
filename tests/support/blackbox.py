"""The embedded black box as tests use it: a real process on an ephemeral loopback port, with a tiny random model."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from deltaserve.offset_models.demo.process import Child, black_box_command
from tests.support.nursery import Forked, nursery

NAME = "tiny"
READY_WITHIN_S = 90
PADDING = 11  # rows that the model has and the tokenizer has not
CORPUS = [
    "The river runs north of the town, past the old mill.",
    "Who wrote the book? I'm not sure.",
    "import os, sys; print('naïve café — 東京 🙂')",
    "She was born in a small house by the sea and became a clockmaker.",
] * 4
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if not loop.last or not continue_final_message %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path, *, seed: int = 0, max_len: int = 256, spread: float = 0.12) -> Path:
    """A random two-layer Llama of some 60 thousand parameters with a byte-level BPE tokenizer, saved in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    size = _write_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size + PADDING,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_len,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=spread)
    model.save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path) -> int:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return backend.get_vocab_size()


@dataclass(frozen=True, slots=True)
class BlackBoxProcess:
    """A running server: its address, its process, and a client with no time limit worth noticing."""

    url: str
    process: Forked
    client: httpx.Client

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json=body)

    def complete(self, prompt: object, **body: Any) -> dict[str, Any]:
        """A completion that must succeed."""
        response = self.post("/v1/completions", prompt=prompt, **body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def events(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> list[Any]:
        """All `data:` payloads of a stream; "[DONE]" stays a string."""
        with self.client.stream("POST", path, json={"stream": True, **body}, headers=headers) as response:
            assert response.status_code == 200, response.read()
            return parse_events(response.read())

    def stats(self) -> dict[str, int]:
        counts: dict[str, int] = self.client.get("/stats").json()
        return counts


def parse_events(raw: bytes) -> list[Any]:
    """Payloads of a complete event stream."""
    frames = [frame.removeprefix(b"data: ") for frame in raw.split(b"\n\n") if frame]
    return [frame.decode() if frame == b"[DONE]" else json.loads(frame) for frame in frames]


@contextmanager
def blackbox(model: Path, *flags: str, name: str = NAME) -> Iterator[BlackBoxProcess]:
    """Starts the server, waits until it says that it is ready, and ends it by its pid."""
    _, _, module, *options = black_box_command(model)
    child = Child("black box", nursery().read(module, *options, "--served-name", name, *flags, errors=False))
    try:
        url = child.ready_url(READY_WITHIN_S)
        if url is None:
            raise RuntimeError(f"the black box did not start: exit status {child.exit_status}")
        with httpx.Client(base_url=url, timeout=60) as client:
            yield BlackBoxProcess(url, child.popen, client)
    finally:
        child.stop()


def forward(model: Path, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities [n, V] float64 of one plain forward pass over the ids the tokenizer has."""
    torch.set_num_threads(1)
    weights = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    size = Tokenizer.from_file(str(model / "tokenizer.json")).get_vocab_size()
    with torch.inference_mode():
        logits = weights(torch.tensor([list(ids)])).logits[0, :, :size]
    return torch.log_softmax(logits.double(), dim=-1)
