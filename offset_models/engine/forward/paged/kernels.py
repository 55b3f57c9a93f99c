"""Triton kernels: rotate and store, attend in parts of the pages, join the parts; gate; add what adapters make.

Shapes that differ from step to step (rows, lengths) are never compiled in: nothing is planned per length, and one
captured graph serves every length. Parts: flash decoding (Dao et al., 2023), with a fixed number of them.
"""
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def rotate_and_store(
    states,  # [R, heads + 2 kv_heads, DIM], of the joined matrix
    queries,  # [R, heads, DIM], written
    anchor,
    rotation,  # [max_len, 2, DIM] cos and signed sin
    query_norm,  # [DIM] weights, read where NORMED
    key_norm,
    slots,
    positions,
    tables,
    layer_start,
    table_width,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PAGE: tl.constexpr,
    NORMED: tl.constexpr,
):
    """One program per row and head of the joined states."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    position, slot = tl.load(positions + row), tl.load(slots + row)
    dims = tl.arange(0, BLOCK)
    inside = dims < DIM
    partners = (dims + DIM // 2) % DIM
    own = states + (row * (HEADS + 2 * KV_HEADS) + head) * DIM
    value = tl.load(own + dims, mask=inside, other=0.0).to(tl.float32)
    if head < HEADS + KV_HEADS:
        partner = tl.load(own + partners, mask=inside, other=0.0).to(tl.float32)
        if NORMED:
            weight = query_norm
            if head >= HEADS:
                weight = key_norm
            scale = tl.rsqrt(tl.sum(value * value) / DIM + eps)
            value = value * scale * tl.load(weight + dims, mask=inside, other=0.0).to(tl.float32)
            partner = partner * scale * tl.load(weight + partners, mask=inside, other=0.0).to(tl.float32)
        turn = rotation + position * 2 * DIM + dims
        cos = tl.load(turn, mask=inside, other=0.0).to(tl.float32)
        sin = tl.load(turn + DIM, mask=inside, other=0.0).to(tl.float32)
        value = value * cos + partner * sin
    if head < HEADS:
        tl.store(queries + (row * HEADS + head) * DIM + dims, value.to(queries.dtype.element_ty), mask=inside)
    else:
        page = tl.load(tables + slot * table_width + position // PAGE)
        place = page + layer_start + (position % PAGE) * 2 * KV_HEADS * DIM + (head - HEADS) * DIM
        tl.store(anchor + place + dims, value.to(anchor.dtype.element_ty), mask=inside)


@triton.jit
def attend_parts(
    queries,  # [R, heads, DIM]
    anchor,
    parts,  # [R, heads, n_parts, DIM] float32, written: weighted sums of values
    peaks,  # [R, heads, n_parts] float32, written: largest score, -inf where a part has no key
    sums,  # [R, heads, n_parts] float32, written: sums of the weights
    slots,
    positions,
    tables,
    layer_start,
    table_width,
    n_parts,
    window,  # positions that are seen, its own included; 0: all
    scaling,
    KV_HEADS: tl.constexpr,
    SHARE: tl.constexpr,  # query heads of one key head
    SHARE_BLOCK: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PAGE: tl.constexpr,
):
    """One program per row, key head and part: a part is a run of whole pages."""
    row, kv_head, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    last, slot = tl.load(positions + row), tl.load(slots + row)
    first = last * 0
    if window > 0:
        first = tl.maximum(last - window + 1, 0)
    first_page, end_page = first // PAGE, last // PAGE + 1
    each = tl.cdiv(end_page - first_page, n_parts)
    begin = first_page + part * each
    end = tl.minimum(begin + each, end_page)

    shares, dims, keys = tl.arange(0, SHARE_BLOCK), tl.arange(0, BLOCK), tl.arange(0, PAGE)
    heads = row * KV_HEADS * SHARE + kv_head * SHARE + shares
    whole = (shares < SHARE)[:, None] & (dims < DIM)[None, :]
    query = tl.load(queries + heads[:, None] * DIM + dims[None, :], mask=whole, other=0.0)
    inner = layer_start + keys[:, None] * (2 * KV_HEADS * DIM) + kv_head * DIM + dims[None, :]
    peak = tl.full((SHARE_BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((SHARE_BLOCK,), tl.float32)
    mixed = tl.zeros((SHARE_BLOCK, BLOCK), tl.float32)
    for index in range(begin, end):
        page = tl.multiple_of(tl.load(tables + slot * table_width + index), 16)
        seen = (index * PAGE + keys <= last) & (index * PAGE + keys >= first)
        held = seen[:, None] & (dims < DIM)[None, :]
        key = tl.load(anchor + page + inner, mask=held, other=0.0)
        value = tl.load(anchor + page + inner + KV_HEADS * DIM, mask=held, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scaling
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp(scores - higher[:, None])
        faded = tl.exp(peak - higher)
        total = total * faded + tl.sum(weights, 1)
        mixed = mixed * faded[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        peak = higher
    place = heads * n_parts + part
    peak = tl.where(total == total, peak, total)  # a NaN must reach the row: `tl.max` has passed over it
    tl.store(peaks + place, peak, mask=shares < SHARE)
    if begin < end:
        tl.store(sums + place, total, mask=shares < SHARE)
        tl.store(parts + place[:, None] * DIM + dims[None, :], mixed, mask=whole)


@triton.jit
def join_parts(parts, peaks, sums, attended, DIM: tl.constexpr, BLOCK: tl.constexpr, N_PARTS: tl.constexpr):
    """One program per row and head; writes `attended` [R · heads, DIM]."""
    head = tl.program_id(0).to(tl.int64)
    each, dims = tl.arange(0, N_PARTS), tl.arange(0, BLOCK)
    peak = tl.load(peaks + head * N_PARTS + each)
    weight = tl.exp(peak - tl.max(peak, 0))
    full = weight > 0
    total = tl.sum(weight * tl.load(sums + head * N_PARTS + each, mask=full, other=0.0), 0)
    held = full[:, None] & (dims < DIM)[None, :]
    mixed = tl.load(parts + (head * N_PARTS + each)[:, None] * DIM + dims[None, :], mask=held, other=0.0)
    result = tl.sum(mixed * weight[:, None], 0) / total
    tl.store(attended + head * DIM + dims, result.to(attended.dtype.element_ty), mask=dims < DIM)


@triton.jit
def gate_silu(states, gated, width, BLOCK: tl.constexpr):
    """silu(gate) · up, of `states` [R, 2 width]; writes `gated` [R, width]."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    own = states + row * 2 * width + columns
    gate = tl.load(own, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(own + width, mask=inside, other=0.0).to(tl.float32)
    result = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(gated + row * width + columns, result.to(gated.dtype.element_ty), mask=inside)


@triton.jit
def add_own(
    output,  # [n, width], added to
    inner,  # [n, rank]
    b,  # [rank, width]
    numbers,  # [n] int64, a row's adapter
    owners,  # [rank] int64, a column's
    n,
    width,
    rank,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    RANKS: tl.constexpr,
):
    """The product of each row's own columns of `inner` with `b`."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    number = tl.load(numbers + rows, mask=rows < n, other=-1)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, rank, RANKS):
        ranks = start + tl.arange(0, RANKS)
        owner = tl.load(owners + ranks, mask=ranks < rank, other=-2)
        own = number[:, None] == owner[None, :]
        part = tl.load(inner + rows[:, None] * rank + ranks[None, :], mask=own, other=0.0)
        whole = (ranks < rank)[:, None] & (columns < width)[None, :]
        weights = tl.load(b + ranks[:, None].to(tl.int64) * width + columns[None, :], mask=whole, other=0.0)
        total += tl.dot(part, weights, input_precision="ieee")
    place = output + rows[:, None] * width + columns[None, :]
    whole = (rows < n)[:, None] & (columns < width)[None, :]
    result = tl.load(place, mask=whole, other=0.0).to(tl.float32) + total
    tl.store(place, result.to(output.dtype.element_ty), mask=whole)
