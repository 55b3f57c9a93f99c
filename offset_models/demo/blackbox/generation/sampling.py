"""From logits to drawn tokens, in float64: the chain of vLLM's sampler, and draws that are exactly its softmax.

Order: allowed ids, minimum length, bias, penalties; then temperature, min_p, top_k, top_p.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deltaserve.offset_models.demo.blackbox.generation.params import SamplingParams

Row = NDArray[np.float64]  # [V] logits or logprobs, nats


def target_logits(
    logits: Row, params: SamplingParams, prompt_ids: Sequence[int], output_ids: Sequence[int], ends: Collection[int]
) -> Row:
    """Logits whose softmax is the distribution to draw from (temperature applied; excluded ids are -inf). [V] -> [V]

    `ends` are the ids that would end the answer: out of reach while it is shorter than `min_tokens`.
    """
    z = logits.copy()
    _restrict(z, params, len(output_ids), ends)
    for token_id, bias in params.logit_bias.items():
        z[token_id] += bias
    if params.penalised:
        _penalise(z, params, prompt_ids, output_ids)
    if params.temperature > 0:
        z /= params.temperature
    return _filter(z, params) if params.filtered else z


def _restrict(z: Row, params: SamplingParams, length: int, ends: Collection[int]) -> None:
    if params.allowed_token_ids:
        allowed = list(params.allowed_token_ids)
        logits = z[allowed].copy()
        z.fill(-np.inf)
        z[allowed] = logits
    if length < params.min_tokens:
        z[list(ends)] = -np.inf


def _penalise(z: Row, params: SamplingParams, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> None:
    if params.repetition_penalty != 1:
        seen = np.unique(np.fromiter((*prompt_ids, *output_ids), np.int64))
        z[seen] = np.where(z[seen] > 0, z[seen] / params.repetition_penalty, z[seen] * params.repetition_penalty)
    if output_ids:
        ids, counts = np.unique(np.asarray(output_ids, np.int64), return_counts=True)
        z[ids] -= params.frequency_penalty * counts + params.presence_penalty


def _filter(z: Row, params: SamplingParams) -> Row:
    if params.min_p > 0:
        z[z < z.max() + np.log(params.min_p)] = -np.inf
    if 0 < params.top_k < len(z):
        z[z < np.partition(z, -params.top_k)[-params.top_k]] = -np.inf  # ties with the k-th stay, as in vLLM
    if params.top_p < 1:
        _keep_nucleus(z, params.top_p)
    return z


def _keep_nucleus(z: Row, top_p: float) -> None:
    """Smallest set of most probable ids whose mass reaches `top_p`; never empty."""
    order = np.argsort(-z, kind="stable")
    p = np.exp(z[order] - z[order[0]])
    mass_before = np.cumsum(p) - p
    z[order[mass_before >= top_p * p.sum()]] = -np.inf


def draw(z: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Inverse-CDF draws. z [n, V] float64 target logits, uniforms [n, m] in [0, 1) -> ids [n, m]."""
    cdf = torch.softmax(z, dim=-1).cumsum(dim=-1)
    # The last entry may fall short of 1 by rounding; scaling by it keeps every draw inside the support.
    return torch.searchsorted(cdf, uniforms * cdf[:, -1:], right=True).clamp_(max=z.shape[-1] - 1)
