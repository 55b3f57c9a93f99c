"""Small random answer positions, and what an objective may look at, as float64 arrays."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deltaserve.offset_models.training.learning.distribution import DensePositions, Positions, corrected

Floats = NDArray[np.float64]


def logprobs(rng: np.random.Generator, rows: int, size: int, spread: float = 2.0) -> Tensor:
    return torch.from_numpy(rng.normal(0, spread, (rows, size))).log_softmax(1)


@dataclass
class Case:
    """Sequences of answers under a black box p, an initial o and a trainable u (its logits are the leaf)."""

    logits: Tensor
    batch: Positions

    @property
    def log_p(self) -> Floats:
        return self.batch.log_p.detach().numpy()

    @property
    def log_q(self) -> Floats:
        return self.batch.log_q.detach().numpy()

    @property
    def log_u(self) -> Floats:
        return self.batch.log_u.detach().numpy()

    def answers(self, table: Floats) -> list[list[float]]:
        """log-probabilities of the reference tokens, one list for each sequence."""
        found: list[list[float]] = [[] for _ in range(int(self.batch.sequences.max()) + 1)]
        for row, (token, sequence) in enumerate(zip(self.batch.targets, self.batch.sequences, strict=True)):
            found[int(sequence)].append(float(table[row, int(token)]))
        return found


def case(
    seed: int, lengths: tuple[int, ...] = (3, 1, 2), size: int = 9, start: bool = False, strength: float = 1.0
) -> Case:
    """`start`: u = o, as before the first step."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    log_p, log_o = logprobs(rng, rows, size), logprobs(rng, rows, size)
    logits = (log_o.clone() if start else logprobs(rng, rows, size)).requires_grad_(True)
    log_u = logits.log_softmax(1)
    targets = torch.from_numpy(rng.integers(0, size, rows))
    sequences = torch.tensor([number for number, length in enumerate(lengths) for _ in range(length)])
    log_q = corrected(log_p, log_o, log_u, strength)
    return Case(logits, DensePositions(log_p, log_q, log_u, targets, sequences))
