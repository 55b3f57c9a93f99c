"""The corrected distribution by its definition: three models in the open, all of the vocabulary, one plain pass each.

log q = log p_M + α·(log p_u − log p_o) − log Z, log p_M alone where KL(p_u ‖ p_o) is below the gate; float32.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from deltaserve.offset_models.checkpoints.peft_files import load_adapter
from tests.support.models import merged, plain_logits


@dataclass(frozen=True, slots=True)
class Oracle:
    black_box: PreTrainedModel
    initial: PreTrainedModel
    unlearned: PreTrainedModel
    rows: int  # ids the tokenizer has
    strength: float
    gate_nats: float

    @classmethod
    def load(cls, weights: Path, checkpoint: Path, rows: int) -> "Oracle":
        torch.set_num_threads(1)
        black_box, initial, unlearned = (_model(weights / name) for name in ("blackbox", "base", "base"))
        adapter = load_adapter(checkpoint / "adapter", unlearned)
        manifest = json.loads((checkpoint / "offset.json").read_bytes())
        served = manifest["strength"], manifest.get("gate_nats", 0.0)
        return cls(black_box, initial, merged(unlearned, dict(adapter)), rows, *served)

    def regrets(self, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
        """How much less probable (nats) each token of the answer is than the best one there; all 0: it is greedy."""
        log_q = self._log_q([*prompt, *answer[:-1]])[-len(answer) :]
        chosen = log_q.gather(1, torch.tensor(answer)[:, None])[:, 0]
        regrets: list[float] = (log_q.max(1).values - chosen).tolist()
        return regrets

    def scores(self, ids: Sequence[int]) -> list[float]:
        """Corrected log-probability of each id but the first, nats."""
        log_q = self._log_q(ids).log_softmax(-1)
        chosen: list[float] = log_q[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        return chosen

    def probs(self, prompt: Sequence[int], *, corrected: bool = True) -> NDArray[np.float64]:
        """The next token's distribution, shape [rows]; without the correction, the black box's own."""
        plain = plain_logits(self.black_box, prompt)[:, : self.rows]
        log_q = (self._log_q(prompt) if corrected else plain)[-1]
        probs: NDArray[np.float64] = log_q.double().softmax(-1).numpy()
        return probs

    def _log_q(self, ids: Sequence[int]) -> Tensor:
        black_box, initial, unlearned = (
            plain_logits(model, ids)[:, : self.rows].log_softmax(-1)
            for model in (self.black_box, self.initial, self.unlearned)
        )
        offset = unlearned - initial
        divergence = (unlearned.exp() * offset).sum(-1, keepdim=True)
        return black_box + self.strength * torch.where(divergence < self.gate_nats, 0.0, offset)


def _model(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
