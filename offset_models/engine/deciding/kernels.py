"""One Triton kernel that looks through a row as `looking.full_view` does: one launch instead of some two hundred.

A program reads one row, time and again: it stays in the second-level cache.
"""
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def look_through(
    base,  # [R, V] float32
    offset,
    outside,  # base, -inf at ids that the black box told of
    tail_base,  # base, -inf at explicit ids
    scalars,  # [R, 5] float64, as `Placed`
    found,  # [R, 10] float64, written: as `full_view`, after the explicit ids' columns
    least_mass,
    WIDTH: tl.constexpr,
    FULL: tl.constexpr,
    PASSES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program per row. Without FULL only the largest offset outside and whether the row is finite."""
    row = tl.program_id(0).to(tl.int64)
    base += row * WIDTH
    offset += row * WIDTH
    outside += row * WIDTH
    tail_base += row * WIDTH
    scalars += row * 5
    found += row * 10
    lanes = tl.arange(0, BLOCK)
    none = float("-inf")

    log_scale = tl.full((), float("-inf"), tl.float64)
    lowered = tl.load(scalars + 2).to(tl.float32)
    if FULL:
        mass, cap = tl.load(scalars), tl.load(scalars + 1)
        if (mass > 0.0) & (tl.load(scalars + 4) == 0.0):
            log_scale = _fill(outside, mass, cap, least_mass, lanes, WIDTH, PASSES, BLOCK)
    shift = log_scale.to(tl.float32)

    peak, best = tl.full((), float("-inf"), tl.float32), tl.full((), 0, tl.int32)
    alone_peak, alone = tl.full((), float("-inf"), tl.float32), tl.full((), 0, tl.int32)
    most, base_peak, offset_peak = peak, peak, peak
    broken = tl.full((), 0, tl.int32)
    for start in range(0, WIDTH, BLOCK):
        at = start + lanes
        inside = at < WIDTH
        b = tl.load(base + at, mask=inside, other=none)
        d = tl.load(offset + at, mask=inside, other=none)
        t = tl.load(tail_base + at, mask=inside, other=none)
        broken += tl.sum(((b != b) | (d != d)).to(tl.int32))
        base_peak = tl.maximum(base_peak, tl.max(b))
        offset_peak = tl.maximum(offset_peak, tl.max(d))
        most = tl.maximum(most, tl.max(tl.where(t == none, none, d)))
        if FULL:
            w = tl.where(t == none, none, tl.minimum(t + shift, lowered) + d)
            here = tl.max(w)
            if here > peak:
                best = start + tl.argmax(w, axis=0)
                peak = here
            both = tl.where(b == none, none, b + d)
            here = tl.max(both)
            if here > alone_peak:
                alone = start + tl.argmax(both, axis=0)
                alone_peak = here
    tl.store(found, most.to(tl.float64))
    fine = (broken == 0) & (base_peak <= 0.01) & (offset_peak < float("inf"))
    tl.store(found + 1, fine.to(tl.float64))
    if FULL:
        temperature = tl.load(scalars + 3).to(tl.float32)
        top = tl.maximum(peak, -3.0e38)
        tempered = tl.full((), 0.0, tl.float64)
        plain = tl.full((), 0.0, tl.float64)
        for start in range(0, WIDTH, BLOCK):
            at = start + lanes
            inside = at < WIDTH
            d = tl.load(offset + at, mask=inside, other=none)
            t = tl.load(tail_base + at, mask=inside, other=none)
            w = tl.where(t == none, none, tl.minimum(t + shift, lowered) + d)
            plain += tl.sum(tl.exp(w - top)).to(tl.float64)
            tempered += tl.sum(tl.exp((w - top) / temperature)).to(tl.float64)
        tl.store(found + 2, log_scale)
        tl.store(found + 3, peak.to(tl.float64))
        tl.store(found + 4, best.to(tl.float64))
        tl.store(found + 5, tl.log(tempered) + (top / temperature).to(tl.float64))
        tl.store(found + 6, tl.log(plain) + top.to(tl.float64))
        tl.store(found + 7, alone.to(tl.float64))
        tl.store(found + 8, tl.load(base + alone).to(tl.float64))
        tl.store(found + 9, tl.load(offset + alone).to(tl.float64))


@triton.jit
def _fill(outside, mass, cap, least_mass, lanes, WIDTH: tl.constexpr, PASSES: tl.constexpr, BLOCK: tl.constexpr):
    """`filling.log_fill_scales` of one row."""
    none = float("-inf")
    peak = tl.full((), float("-inf"), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        at = start + lanes
        peak = tl.maximum(peak, tl.max(tl.load(outside + at, mask=at < WIDTH, other=none)))
    log_scale = tl.full((), float("-inf"), tl.float64)
    if peak > none:
        level = tl.where(cap < 1.0e300, tl.exp(tl.minimum(cap, 1.0)), 0.0)
        scale = tl.full((), 0.0, tl.float64)
        count = tl.full((), -1, tl.int32)
        before = tl.full((), -2, tl.int32)
        reach = tl.full((), float("inf"), tl.float32)  # ids above it, on the scale of the peak, are at the cap
        for _ in range(PASSES):
            if count != before:
                before = count
                capped = tl.full((), 0, tl.int32)
                below = tl.full((), 0.0, tl.float64)
                for start in range(0, WIDTH, BLOCK):
                    at = start + lanes
                    x = tl.load(outside + at, mask=at < WIDTH, other=none) - peak
                    over = x > reach
                    capped += tl.sum(over.to(tl.int32))
                    below += tl.sum(tl.where(over, 0.0, tl.exp(x))).to(tl.float64)
                count = capped
                if below > 0.0:
                    left = mass - capped.to(tl.float64) * level
                    scale = tl.maximum(scale, tl.where(left < least_mass, 0.0, left) / below)
                reach = (cap - tl.log(scale)).to(tl.float32)
        log_scale = tl.where(count == before, tl.log(scale) - peak.to(tl.float64), float("nan"))
    return log_scale
