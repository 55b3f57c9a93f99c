"""The arithmetic walked over the whole vocabulary, one id at a time: slow, obvious; the fast path must equal it."""

import math
from collections.abc import Mapping, Sequence

NEVER = -math.inf


def log_sum(values: Sequence[float]) -> float:
    peak = max(values, default=NEVER)
    return NEVER if peak == NEVER else peak + math.log(sum(math.exp(v - peak) for v in values))


def log_softmax(logits: Sequence[float]) -> list[float]:
    norm = log_sum(logits)
    return [x - norm for x in logits]


def summed_offset(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], strengths: Sequence[float]) -> list[float]:
    """Σ_j α_j (log p_u_j(i) − log p_o_j(i)); pairs are (initial, unlearned) log-probabilities."""
    size = len(pairs[0][0])
    return [sum(a * (u[i] - o[i]) for (o, u), a in zip(pairs, strengths, strict=True)) for i in range(size)]


def weights(
    top: Mapping[int, float], base: Sequence[float], offset: Sequence[float], policy: str
) -> tuple[list[float], float]:
    """Unnormalised log q for every id, and the tail mass."""
    listed = sum(math.exp(v) for v in top.values())
    tail_mass = 1.0 - listed if 1.0 - listed > 1e-12 else 0.0
    tail = filled([j for j in range(len(base)) if j not in top], base, tail_mass, min(top.values(), default=math.inf))
    found = []
    for i in range(len(base)):
        if base[i] == NEVER:
            found.append(NEVER)
        elif i in top:
            found.append(top[i] + offset[i])
        else:
            found.append(NEVER if policy == "truncate" else tail[i] + offset[i])
    return found, tail_mass


def filled(outside: Sequence[int], base: Sequence[float], mass: float, cap: float) -> dict[int, float]:
    """The tail before correction: the shape of `base`, holding `mass`, no id above `cap`; all at it if that is less."""
    below = sorted((i for i in outside if base[i] > NEVER), key=lambda i: -base[i])
    tail = dict.fromkeys(outside, NEVER)
    if mass == 0.0:
        return tail
    least = NEVER  # the scale at which the last one met the cap: where rounding leaves no mass it is the least
    while below:
        scale = max(least, (math.log(mass) if mass > 1e-12 else NEVER) - log_sum([base[i] for i in below]))
        if base[below[0]] + scale <= cap:
            return tail | {i: base[i] + scale for i in below}
        least = cap - base[below[0]]
        tail[below.pop(0)] = cap
        mass -= math.exp(cap)
    return tail


def kl_nats(log_q: Sequence[float], top: Mapping[int, float], base: Sequence[float], policy: str) -> float:
    """KL(after ‖ before); before is what the same list gives without an offset."""
    before = log_softmax(weights(top, base, [0.0] * len(base), policy)[0])
    return sum(math.exp(q) * (q - p) for q, p in zip(log_q, before, strict=True) if q > NEVER)


def certified(top: Mapping[int, float], base: Sequence[float], offset: Sequence[float]) -> bool:
    head = max((top[i] + offset[i] for i in top if base[i] > NEVER), default=NEVER)
    outside = max((offset[i] for i in range(len(base)) if i not in top and base[i] > NEVER), default=NEVER)
    return bool(top) and head >= min(top.values()) + outside


def target(
    log_q: Sequence[float],
    *,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
) -> list[float]:
    """q̃ for every id, from normalised log q."""
    found = []
    for i, value in enumerate(log_q):
        count = output.count(i)
        if (i in prompt or count) and repetition_penalty != 1.0:
            value *= repetition_penalty
        value -= count * frequency_penalty + (presence_penalty if count else 0.0)
        found.append((value + (logit_bias or {}).get(i, 0.0)) / temperature)
    probs = [math.exp(v) for v in log_softmax(found)]
    floor = min_p * max(probs)
    probs = [p if p >= floor else 0.0 for p in probs]
    order = sorted(range(len(probs)), key=lambda i: (-probs[i], i))
    order = order[:top_k] if top_k else order
    order = [i for i in order if probs[i] > 0.0]
    if top_p < 1.0:
        total, mass, kept = sum(probs[i] for i in order), 0.0, []
        for i in order:
            kept.append(i)
            mass += probs[i]
            if mass >= top_p * total:
                break
        order = kept
    total = sum(probs[i] for i in order)
    return [probs[i] / total if i in order else 0.0 for i in range(len(probs))]
