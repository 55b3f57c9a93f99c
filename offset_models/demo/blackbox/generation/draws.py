"""From a batch of logits to tokens: one softmax, one top-k and one draw for all rows of a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deltaserve.offset_models.demo.blackbox.generation import sampling
from deltaserve.offset_models.demo.blackbox.generation.params import SamplingParams
from deltaserve.offset_models.demo.blackbox.generation.sequence import PromptPosition

Ends = Callable[[SamplingParams], frozenset[int]]


@dataclass(slots=True)
class Ask:
    """One row of logits and what is to be drawn from it: once for each uniform."""

    params: SamplingParams
    prompt_ids: Sequence[int]
    output_ids: Sequence[int]
    uniforms: NDArray[np.float64]  # [m] in [0, 1)
    allowed: torch.Tensor | None = None  # [V] bool, by a grammar; None: all

    @property
    def greedy(self) -> bool:
        """Whether the draw is the largest of the model's own logits."""
        return self.params.temperature == 0 and self.params.plain


@dataclass(slots=True)
class Drawn:
    """What came of one row: m draws and the list of alternatives they share."""

    token_ids: list[int]
    logprobs: list[float]  # of the drawn ids
    top_ids: list[int]  # [k] by rank
    top_logprobs: list[float]

    def alternatives(self, draw: int) -> tuple[list[int], list[float]]:
        """The drawn id first, then the others by rank, as vLLM lists them."""
        token_id = self.token_ids[draw]
        ids, logprobs = [token_id], [self.logprobs[draw]]
        for other, logprob in zip(self.top_ids, self.top_logprobs, strict=True):
            if other != token_id:
                ids.append(other)
                logprobs.append(logprob)
        return ids, logprobs


def draw_rows(
    logits: torch.Tensor, asks: list[Ask], ends: Ends, *, processed: bool, unmasked: bool = False
) -> list[Drawn]:
    """Draws from logits [n, V] float32, row i as asks[i] wants. `processed`: report logprobs of the target.

    `unmasked`: what a grammar forbids is not drawn, and reported as if there were none.
    """
    free = logits
    logits = _within_grammars(logits, asks)
    odd = [i for i, ask in enumerate(asks) if not ask.greedy]
    targets = _targets(logits[odd], [asks[i] for i in odd], ends)
    token_ids = _draw(logits, targets, odd, asks)
    if processed and odd:
        logits = logits.index_put((torch.tensor(odd),), targets.float())
    reported = torch.log_softmax(free if unmasked else logits, dim=-1)
    chosen = [
        reported[i, ids].tolist() if ask.params.logprobs is not None else []
        for i, (ids, ask) in enumerate(zip(token_ids, asks, strict=True))
    ]
    tops = _top(reported, asks)
    return [Drawn(ids, *rest) for ids, rest in zip(token_ids, zip(chosen, *tops, strict=True), strict=True)]


def _within_grammars(logits: torch.Tensor, asks: list[Ask]) -> torch.Tensor:
    """-inf at what is not allowed. [n, V] -> [n, V]"""
    held = [(i, ask.allowed) for i, ask in enumerate(asks) if ask.allowed is not None]
    if held:
        logits = logits.clone()
    for i, allowed in held:
        logits[i, ~allowed] = -torch.inf
    return logits


def _targets(logits: torch.Tensor, asks: list[Ask], ends: Ends) -> torch.Tensor:
    """Logits of the distributions to draw from, temperature applied. [n, V] float32 -> [n, V] float64"""
    z = logits.double()
    temperatures = [ask.params.temperature if ask.params.plain else 1.0 for ask in asks]
    if any(t != 1.0 for t in temperatures):
        z /= torch.tensor(temperatures, dtype=torch.float64)[:, None]
    for i, ask in enumerate(asks):
        if not ask.params.plain:
            row = sampling.target_logits(z[i].numpy(), ask.params, ask.prompt_ids, ask.output_ids, ends(ask.params))
            z[i] = torch.from_numpy(row)
    return z


def _draw(logits: torch.Tensor, targets: torch.Tensor, odd: list[int], asks: list[Ask]) -> list[list[int]]:
    """Drawn ids of each row, as many as it has uniforms. `targets` are those of the rows `odd`."""
    best = logits.argmax(dim=-1)
    best[odd] = targets.argmax(dim=-1)
    drawn = [[i] * len(ask.uniforms) for i, ask in zip(best.tolist(), asks, strict=True)]
    sampled = [(at, i) for at, i in enumerate(odd) if asks[i].params.temperature > 0]
    for group in _same_width(sampled, asks):
        uniforms = torch.from_numpy(np.stack([asks[i].uniforms for _, i in group]))
        ids = sampling.draw(targets[[at for at, _ in group]], uniforms).tolist()
        for (_, i), row_ids in zip(group, ids, strict=True):
            drawn[i] = row_ids
    return drawn


def _same_width(rows: list[tuple[int, int]], asks: list[Ask]) -> list[list[tuple[int, int]]]:
    groups: dict[int, list[tuple[int, int]]] = {}
    for at, i in rows:
        groups.setdefault(len(asks[i].uniforms), []).append((at, i))
    return list(groups.values())


def _top(logprobs: torch.Tensor, asks: list[Ask]) -> tuple[list[list[int]], list[list[float]]]:
    """The alternatives each row is to list, by rank."""
    ids: list[list[int]] = [[] for _ in asks]
    values: list[list[float]] = [[] for _ in asks]
    widths = {i: a.params.logprobs for i, a in enumerate(asks) if a.params.logprobs and not a.params.logprob_token_ids}
    if widths:
        top = logprobs[list(widths)].topk(max(widths.values()), dim=-1)
        for (i, k), row_ids, row_values in zip(widths.items(), top.indices, top.values, strict=True):
            ids[i], values[i] = row_ids[:k].tolist(), row_values[:k].tolist()
    for i, ask in enumerate(asks):
        if ask.params.logprob_token_ids and ask.params.logprobs is not None:
            ids[i] = list(ask.params.logprob_token_ids)
            values[i] = logprobs[i, ids[i]].tolist()
    return ids, values


def prompt_positions(logits: torch.Tensor, next_ids: Sequence[int], k: int) -> list[PromptPosition]:
    """The model's lists along a prompt: logits [n, V] predict next_ids [n]. Raw in every mode of the server."""
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.gather(1, torch.tensor(next_ids)[:, None])
    ranks = (logprobs > chosen).sum(dim=1) + 1
    out = [PromptPosition([i], [float(v)], [int(r)]) for i, v, r in zip(next_ids, chosen[:, 0], ranks, strict=True)]
    if k:
        top = logprobs.topk(k, dim=-1)
        for position, ids, values in zip(out, top.indices.tolist(), top.values.tolist(), strict=True):
            _add_ranked(position, ids, values)
    return out


def _add_ranked(position: PromptPosition, ids: list[int], logprobs: list[float]) -> None:
    for rank, (token_id, logprob) in enumerate(zip(ids, logprobs, strict=True), 1):
        if token_id != position.ids[0]:
            position.ids.append(token_id)
            position.logprobs.append(logprob)
            position.ranks.append(rank)
