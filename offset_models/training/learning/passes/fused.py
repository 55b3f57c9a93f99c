"""log q at answer tokens and KL(p ‖ q) straight from the pair's logits, a few rows at a time.

Written out, log p, log u and log q of some hundred positions are tables of a gigabyte each, and every operation on them
reads and writes all of it. Losses need one number of each row. So a few rows at a time, which fit into a processor's
cache, are taken to that number and to its gradient, which alone is kept:

log q = x − log Σ exp x with x = log p + α·(z_u − z_o), as constants of a row do not matter. With one-hot 1(y):
∂ log q(y)/∂z_u = α·(1(y) − q); ∂ KL(p ‖ q)/∂z_u = α·(q − p).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from deltaserve.offset_models.training.learning.passes.tail import Imputed

ROWS: Final = 8  # of some 150,000 numbers: a megabyte or less each
NEVER: Final = -1e4  # instead of −∞, whose products with 0 are NaN; its exp is 0 all the same


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Which columns of a model's logits are tokens."""

    size: int | None  # columns beyond are padding; None: none is
    masked: tuple[int, ...]

    def rows(self, logits: Tensor, at: slice) -> Tensor:
        """Rows `at` as float32 in new memory, NEVER where no token is; padding is left out."""
        found = logits[at, : self.size].to(torch.promote_types(logits.dtype, torch.float32), copy=True)
        if self.masked:
            found[:, list(self.masked)] = NEVER
        return found


@dataclass(frozen=True, slots=True)
class Corrected:
    """x = log p + α·(z_u − z_o) of some rows, and log p itself."""

    vocabulary: Vocabulary
    initial: Tensor  # z_o [n, V], as the model gives them
    imputed: Imputed  # of the same rows
    strength: float

    def __call__(self, unlearned: Tensor, at: slice) -> tuple[Tensor, Tensor]:
        """x and log p, both [·, V] and new, of rows `at`."""
        rows = self.vocabulary.rows(unlearned, at)
        log_p = self.vocabulary.rows(self.initial, at)
        rows.sub_(log_p)
        if self.strength != 1.0:
            rows.mul_(self.strength)
        self.imputed.fill(log_p, at)
        return rows.add_(log_p), log_p


class TokenLogprobs(torch.autograd.Function):
    """log softmax(x) at one token of each row: [n]. `corrected` None: x = z_u."""

    @staticmethod
    def forward(
        ctx: Any, unlearned: Tensor, tokens: Tensor, vocabulary: Vocabulary, corrected: Corrected | None
    ) -> Tensor:
        slope = _empty_slope(unlearned, vocabulary) if ctx.needs_input_grad[0] else None
        strength = 1.0 if corrected is None else corrected.strength
        parts = []
        for at in slices(len(unlearned)):
            rows = vocabulary.rows(unlearned, at) if corrected is None else corrected(unlearned, at)[0]
            log_q, wanted = rows.log_softmax(1), tokens[at, None]
            parts.append(log_q.gather(1, wanted).squeeze(1))
            if slope is not None:
                grown = log_q.exp_().neg_()
                grown.scatter_add_(1, wanted, torch.ones_like(wanted, dtype=grown.dtype))
                slope[at, : grown.shape[1]] = grown.mul_(strength)
        ctx.slope = slope
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None, None]:
        return _scaled(ctx, gradients[0]), None, None, None


class Divergences(torch.autograd.Function):
    """KL(p ‖ q) in nats [n], and beside it log q at one token of each row [n], which has no gradient here."""

    @staticmethod
    def forward(ctx: Any, unlearned: Tensor, tokens: Tensor, corrected: Corrected) -> tuple[Tensor, Tensor]:
        slope = _empty_slope(unlearned, corrected.vocabulary) if ctx.needs_input_grad[0] else None
        nats, answers = [], []
        for at in slices(len(unlearned)):
            rows, log_p = corrected(unlearned, at)
            log_q = rows.log_softmax(1)
            answers.append(log_q.gather(1, tokens[at, None]).squeeze(1))
            p = log_p.exp()
            apart = log_p.sub_(log_q)
            if not bool(corrected.imputed.shift[at].isfinite().all()):
                apart.masked_fill_(p == 0, 0.0)  # of a tail without mass: −∞ − (−∞) is NaN
            nats.append(torch.linalg.vecdot(p, apart))
            if slope is not None:
                slope[at, : p.shape[1]] = log_q.exp_().sub_(p).mul_(corrected.strength)
        ctx.slope = slope
        found = torch.cat(answers)
        ctx.mark_non_differentiable(found)
        return torch.cat(nats), found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        return _scaled(ctx, gradients[0]), None, None


def slices(rows: int) -> Iterator[slice]:
    """All rows, `ROWS` at a time."""
    for start in range(0, rows, ROWS):
        yield slice(start, min(start + ROWS, rows))


def _empty_slope(unlearned: Tensor, vocabulary: Vocabulary) -> Tensor:
    """To be written over, but for the padding, which is 0."""
    slope = torch.empty_like(unlearned)
    if vocabulary.size is not None:
        slope[:, vocabulary.size :] = 0.0
    return slope


def _scaled(ctx: Any, gradient: Tensor) -> Tensor:
    """The slope of every row times what arrives there; the slope's memory is used up."""
    slope: Tensor = ctx.slope
    return slope * gradient[:, None].to(slope.dtype)
