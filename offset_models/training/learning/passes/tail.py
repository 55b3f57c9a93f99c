"""log p̂ of the black box as few numbers: a list of ids with their log-probabilities, and one shift for all others.

The definition is `distribution.imputed_logprobs`: ℓ on the list K, outside min(s·p_o(i), min_K p). But for the few ids
at the cap log p̂(i) = z_o(i) + shift, whatever z_o is up to a constant. What a row's list says never changes, so it is
found once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deltaserve.server.decoding.filling import ROUNDING

CANDIDATES: Final = 32  # of the largest unlisted ids: more may be at the cap only where a list is flat


@dataclass(frozen=True, slots=True)
class Imputed:
    """log p̂ of rows: `logprobs` at `ids`, z_o + `shift` elsewhere. An id may come again with the same number."""

    ids: Tensor  # [n, c]
    logprobs: Tensor  # [n, c]
    shift: Tensor  # [n]; −∞ where nothing is left for the others

    def fill(self, logits: Tensor, at: slice) -> None:
        """Makes log p̂ of z_o in place, for the rows `at`."""
        logits.add_(self.shift[at, None])
        logits.scatter_(1, self.ids[at], self.logprobs[at].to(logits.dtype))

    def part(self, at: slice) -> "Imputed":
        return Imputed(self.ids[at], self.logprobs[at], self.shift[at])

    @classmethod
    def joined(cls, parts: Sequence["Imputed"]) -> "Imputed":
        """Rows after rows; those with fewer ids say their first one again."""
        most = max(part.ids.shape[1] for part in parts)
        return cls(
            torch.cat([_widened(part.ids, most) for part in parts]),
            torch.cat([_widened(part.logprobs, most) for part in parts]),
            torch.cat([part.shift for part in parts]),
        )


def imputed(top_ids: Tensor, top_logprobs: Tensor, logits: Tensor, candidates: int = CANDIDATES) -> Imputed:
    """top_ids, top_logprobs: [n, k]; logits: z_o [n, V] float, which are overwritten."""
    known = logits if candidates >= logits.shape[1] else logits.clone()
    known.scatter_(1, top_ids, -torch.inf)
    best, at = known.topk(min(candidates, known.shape[1] - top_ids.shape[1]), 1)
    known.scatter_(1, at, -torch.inf)
    rest, cap = known.logsumexp(1, keepdim=True), top_logprobs.amin(1, keepdim=True)
    listed = top_logprobs.double().exp().masked_fill(_repeated(top_ids), 0.0).sum(1, keepdim=True)
    capped, log_left, below = _filled(best, rest, 1.0 - listed, cap)
    if bool(capped.all(1).any()) and candidates < logits.shape[1]:
        return imputed(top_ids, top_logprobs, logits, min(8 * candidates, logits.shape[1]))
    shift = log_left - below.clamp(min=torch.finfo(below.dtype).min)
    placed = log_left.double().exp().masked_fill(~below.isfinite(), 0.0)
    norm = (listed + capped.sum(1, keepdim=True) * cap.double().exp() + placed).log().to(shift.dtype)
    others = torch.where(capped, cap, best + shift)
    ids, logprobs = torch.cat([top_ids, at], 1), torch.cat([top_logprobs, others], 1) - norm
    return Imputed(ids, logprobs, (shift - norm).squeeze(1))


def unlisted(logits: Tensor) -> Imputed:
    """Of rows without a list: o itself."""
    n = len(logits)
    ids = torch.zeros((n, 1), dtype=torch.long, device=logits.device)
    shift = -logits.logsumexp(1, keepdim=True)
    return Imputed(ids, logits[:, :1] + shift, shift.squeeze(1))


def _filled(best: Tensor, rest: Tensor, mass: Tensor, log_cap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which candidates are at the cap [n, c]; log of the mass left for all others, and log of what they have, [n, 1].

    Each pass puts those at the cap that the last scale lifted to it.
    """
    capped = torch.zeros_like(best, dtype=torch.bool)
    lowest = torch.finfo(best.dtype).min
    while True:
        left = mass - capped.sum(1, keepdim=True) * log_cap.double().exp()
        log_left = left.masked_fill(left < ROUNDING, 0.0).log().to(best.dtype)
        below = torch.logaddexp(rest, best.masked_fill(capped, -torch.inf).logsumexp(1, keepdim=True))
        above = (best + (log_left - below.clamp(min=lowest)) > log_cap) & ~capped
        if not bool(above.any()):
            return capped, log_left, below
        capped |= above


def _repeated(top_ids: Tensor) -> Tensor:
    """Whether an entry is the one before once more, as in a list that is shorter than k."""
    repeated = torch.zeros_like(top_ids, dtype=torch.bool)
    repeated[:, 1:] = top_ids[:, 1:] == top_ids[:, :-1]
    return repeated


def _widened(columns: Tensor, most: int) -> Tensor:
    return torch.cat([columns, columns[:, :1].expand(-1, most - columns.shape[1])], 1)
