"""The language model behind the engine: a folder's causal LM over KV slots, and its tokenizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from deltaserve.offset_models.checkpoints.model_files import load_model
from deltaserve.offset_models.demo.blackbox.options import Options
from deltaserve.offset_models.engine.forward.runner import Runner
from deltaserve.offset_models.engine.forward.runner import Work as RunnerWork
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.tokenizer.generation_config import recommended_sampling

LARGEST_DEFAULT_LENGTH = 4096  # positions; a model that could take more says so with --max-model-len


@dataclass(frozen=True, slots=True)
class Work:
    """New ids of one slot and the offsets among them whose logits are wanted."""

    slot: int
    start: int
    ids: Sequence[int]
    rows: list[int]  # ascending

    def for_runner(self) -> RunnerWork:
        return RunnerWork(self.slot, self.start, self.ids, rows=len(self.ids) - self.rows[0] if self.rows else 0)

    def among_last(self) -> list[int]:
        """`rows` counted from the first one that the runner gives."""
        return [row - self.rows[0] for row in self.rows]


class CausalModel:
    """Logits over the ids that the tokenizer has: rows that only pad the vocabulary are cut off or set to -inf."""

    def __init__(self, runner: Runner, token_ids: set[int], eos_ids: frozenset[int], max_len: int) -> None:
        self.vocab_size = min(max(token_ids) + 1, runner.vocab_rows)
        self.eos_ids = eos_ids
        self.max_len = max_len
        self._runner = runner
        self._holes = [i for i in range(self.vocab_size) if i not in token_ids]

    def forward(self, batch: list[Work]) -> torch.Tensor:
        """Logits of every wanted row, in order. -> [n, vocab_size] float32"""
        packed = [w.for_runner() for w in batch]
        logits = self._runner.forward_packed(packed)[:, : self.vocab_size]
        if any(len(w.rows) != p.rows for w, p in zip(batch, packed, strict=True)):
            logits = logits[_kept(batch, packed)]
        if self._holes:
            logits[:, self._holes] = -torch.inf
        return logits

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the keys and values of the first `length` positions."""
        self._runner.kv.copy(source, target, 0, length)


def _kept(batch: list[Work], packed: list[RunnerWork]) -> list[int]:
    rows: list[int] = []
    base = 0
    for work, given in zip(batch, packed, strict=True):
        rows.extend(base + row for row in work.among_last())
        base += given.rows
    return rows


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a model folder holds."""

    model: CausalModel
    tokenizer: Any  # transformers' tokenizer: chat template, special tokens
    backend: Tokenizer  # the fast tokenizer under it
    name: str
    recommended: Mapping[str, float] = field(default_factory=dict)  # sampling of requests that do not say


def load(options: Options) -> Loaded:
    """Reads the folder; raises BadCheckpoint when it cannot be served."""
    torch.set_num_threads(options.threads)
    weights = load_model(options.model, getattr(torch, options.dtype))
    with refusing(f"{options.model.name} cannot be served as a black box"):
        # Not AutoTokenizer: for some model types it builds another tokenizer than the one in tokenizer.json.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(options.model)
        max_len = options.max_model_len or min(weights.config.max_position_embeddings, LARGEST_DEFAULT_LENGTH)
        eos_ids = _eos_ids(weights, tokenizer)
        runner = Runner(weights, options.slots, max_len)
    token_ids = set(tokenizer.get_vocab().values())
    model = CausalModel(runner, token_ids, eos_ids, max_len)
    return Loaded(model, tokenizer, tokenizer.backend_tokenizer, options.name, _recommended(options))


def _eos_ids(weights: Any, tokenizer: Any) -> frozenset[int]:
    declared = weights.generation_config.eos_token_id if weights.generation_config else None
    several = declared if isinstance(declared, list) else [declared]
    return frozenset(i for i in (*several, tokenizer.eos_token_id) if i is not None)


def _recommended(options: Options) -> Mapping[str, float]:
    return {} if options.generation_config == "vllm" else recommended_sampling(options.model)
