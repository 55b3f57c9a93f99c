"""Draws that need the whole vocabulary: a token of the tail, a nucleus wider than the explicit ids, a seeded draw.

A few rows of a batch at most. Everything is in float64, in the order of ids, as `Target.probs` and `verify`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deltaserve.offset_models.engine.deciding.looking import Tails
from deltaserve.offset_models.engine.upload import upload
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Floats, Ids


@dataclass(slots=True)
class Draw:
    """One token to be drawn from a row's whole target."""

    row: int  # of the tails
    params: SamplingParams  # temperature and filters
    ids: Ids  # [h] explicit ids
    weights: Floats  # [h] theirs, before temperature; -inf to leave them out
    uniforms: tuple[float, float]  # the first accepts a draft, the last draws
    proposed: int | None = None  # the draft; None: there is none, or nothing is known of how it was drawn
    draft_ids: Ids = field(default_factory=lambda: NO_IDS)  # [k] what the draft was drawn from: these ids
    draft_probs: Floats = field(default_factory=lambda: NO_FLOATS)  # with these probabilities,
    drawn_from: Tensor | None = None  # or all ids [V] float64 with these
    gumbel: Floats | None = None  # [V] noise of a seeded stream; it then decides alone
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """Token ids [n] (-1: nothing has any weight), their weight in the tail, q̃ at the explicit ids [n, h]; all q̃."""

    tokens: list[int]
    tail_weights: list[float]
    probs_at: list[Floats]
    probs: Tensor  # [n, V] float64, on the device


def draw(tails: Tails, draws: Sequence[Draw]) -> Drawn:
    """All of `draws`; waits for the device once."""
    device = tails.weights.device
    rows = upload([one.row for one in draws], device)
    tail = tails.weights.index_select(0, rows)
    ids, weights, has = _explicit(draws, device)
    probs = _probs(tail, ids, weights, has, draws)
    tokens = _tokens(probs, draws)
    found = torch.cat(
        [
            torch.where(probs.amax(-1) > 0.0, tokens, -1).double()[:, None],
            tail.gather(1, tokens[:, None]).double(),
            probs.gather(1, ids),
        ],
        1,
    ).cpu()
    table = found.numpy()
    at = [table[i, 2 : 2 + one.ids.size] for i, one in enumerate(draws)]
    return Drawn(table[:, 0].astype(np.int64).tolist(), table[:, 1].tolist(), at, probs)


def _explicit(draws: Sequence[Draw], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, weights, whether it is one), each [n, H]; a shorter row repeats its last."""
    width = max(1, *(one.ids.size for one in draws)) if len(draws) > 1 else max(1, draws[0].ids.size)
    ids, weights = np.zeros((len(draws), width), np.int64), np.zeros((len(draws), width))
    has = np.zeros((len(draws), width), np.bool_)
    for i, one in enumerate(draws):
        h = one.ids.size
        if h:
            ids[i, :h], weights[i, :h] = one.ids, one.weights
            ids[i, h:], weights[i, h:] = one.ids[-1], one.weights[-1]
            has[i] = True
    return tuple(upload(array, device) for array in (ids, weights, has))  # type: ignore[return-value]


def _probs(tail: Tensor, ids: Tensor, weights: Tensor, has: Tensor, draws: Sequence[Draw]) -> Tensor:
    """q̃ over the vocabulary, [n, V] float64; a row of zeros where nothing has any weight."""
    whole = tail.double()
    whole.scatter_(1, ids, torch.where(has, weights, whole.gather(1, ids)))
    whole /= _column([one.params.temperature for one in draws], tail.device)
    probs = (whole - whole.amax(-1, keepdim=True)).exp_().nan_to_num_(nan=0.0)  # -inf less -inf: nothing has weight
    if any(one.params.filtered for one in draws):
        probs = _filtered(probs, [one.params for one in draws])
    return probs / probs.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def _filtered(probs: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """`keep_probable` of each row."""
    device, width = probs.device, probs.shape[1]
    least = _column([one.min_p for one in params], device)
    probs = probs.masked_fill(probs < least * probs.amax(-1, keepdim=True), 0.0)
    if all(one.top_k <= 0 and one.top_p >= 1.0 for one in params):
        return probs
    ordered, at = probs.sort(dim=-1, descending=True, stable=True)
    most = upload([min(one.top_k, width) if one.top_k > 0 else width for one in params], device)[:, None]
    ordered = ordered.masked_fill(torch.arange(width, device=device) >= most, 0.0)
    before = ordered.cumsum(-1)
    top_p = _column([one.top_p if one.top_p < 1.0 else torch.inf for one in params], device)
    goal = (top_p * before[:, -1:]).clamp_min_(torch.finfo(torch.float64).tiny)
    kept = ordered.masked_fill(before - ordered >= goal, 0.0)
    return torch.zeros_like(probs).scatter_(1, at, kept)


def _tokens(probs: Tensor, draws: Sequence[Draw]) -> Tensor:
    """[n] int64."""
    device = probs.device
    proposed = upload([-1 if one.proposed is None else one.proposed for one in draws], device)[:, None]
    uniforms = upload(np.array([one.uniforms for one in draws]), device)
    residual, accepted = probs, torch.zeros(len(draws), dtype=torch.bool, device=device)
    if any(one.proposed is not None for one in draws):
        drafts = _drafts(probs, draws)
        at = proposed.clamp_min(0)
        accepted = (uniforms[:, :1] * drafts.gather(1, at) < probs.gather(1, at))[:, 0] & (proposed[:, 0] >= 0)
        residual = (probs - drafts).clamp_min_(0.0)
        residual = torch.where(residual.amax(-1, keepdim=True) > 0.0, residual, probs)  # nothing left: only rounding
    mass = residual.cumsum(-1)
    drawn = torch.searchsorted(mass, uniforms[:, 1:] * mass[:, -1:], right=True)[:, 0]
    last = probs.shape[1] - 1 - (residual > 0.0).flip(-1).int().argmax(-1)
    tokens = torch.where(accepted, proposed[:, 0], torch.minimum(drawn, last))
    for i, one in enumerate(draws):
        if one.gumbel is not None:
            tokens[i] = (probs[i].log() + upload(one.gumbel, device)).argmax()
    return tokens


def _drafts(probs: Tensor, draws: Sequence[Draw]) -> Tensor:
    """p̂ over the vocabulary, [n, V]; zeros where nothing is known of it."""
    drafts = torch.zeros_like(probs)
    for i, one in enumerate(draws):
        if one.drawn_from is not None:
            drafts[i] = one.drawn_from
        elif one.draft_ids.size:
            drafts[i].index_copy_(0, upload(one.draft_ids, probs.device), upload(one.draft_probs, probs.device))
    return drafts


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return upload(np.array(values, np.float64), device)[:, None]
