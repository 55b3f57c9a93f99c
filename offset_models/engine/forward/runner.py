"""One model, many sequences: ragged batches over preallocated key/value slots.

The new tokens of all sequences are packed end to end into one row, so linear layers see no padding; attention reads
each sequence's own slot (`attention.py`). Works with every decoder of transformers that takes its attention function
from the registry (Llama, Mistral, Qwen2, Qwen3, Gemma, Gemma 3 text, Phi-3, ...).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.forward.attention import SLOT_ATTENTION, Entry, SlotBatch
from deltaserve.offset_models.engine.forward.branches import Branches, paths_to
from deltaserve.offset_models.engine.forward.compatibility import require_supported
from deltaserve.offset_models.engine.forward.fused import FAMILIES, FusedDecoder
from deltaserve.offset_models.engine.forward.lora import AdapterBank
from deltaserve.offset_models.engine.forward.paged.choosing import paged_storage, row_decoder, runs_over_pages
from deltaserve.offset_models.engine.forward.paged.decoder import BUCKETS, MOST_ROWS, RowDecoder
from deltaserve.offset_models.engine.forward.paged.inputs import Rows
from deltaserve.offset_models.engine.forward.paged.pages import PagedKV
from deltaserve.offset_models.engine.forward.slots import KVSlots

SPARE_SLOTS: Final = 8  # beside those of sequences: in pages a way on takes one while its rows are computed


@dataclass(frozen=True, slots=True)
class Work:
    """New tokens of one sequence. What its slot held from `start` on is overwritten (rewind: a smaller `start`)."""

    slot: int
    start: int  # position of the first new token = tokens of the sequence already in the slot
    token_ids: Sequence[int]  # at least one
    adapter: int | None = None  # an adapter of the runner's bank; None: the base model
    rows: int = 1  # logits wanted for the last `rows` of token_ids (0: only fill the slot)
    branches: Branches | None = None  # ways on behind the sequence, whose wanted logits come after those

    @property
    def all_ids(self) -> list[int]:
        """Tokens that run, those of the branches last."""
        return [*self.token_ids, *(() if self.branches is None else self.branches.token_ids)]

    @property
    def kept(self) -> list[int]:
        """Places among them whose logits are wanted."""
        n = len(self.token_ids)
        return [*range(n - self.rows, n), *(() if self.branches is None else (n + w for w in self.branches.wanted))]


class Runner:
    """A decoder-only model with `slots` sequences of up to `max_len` tokens. Not thread-safe: one thread uses it.

    `device` and `dtype` move the model (bf16 on GPUs); None leaves it as it is. Models of the Llama family run in few
    operations (`fused.py`), others through transformers. `compile_model` wraps those in torch.compile with dynamic
    shapes instead; attention and adapters stay eager. `paged`: models of the family keep keys and values in pages and
    run as graphs (`paged/decoder.py`); None: on GPUs with triton.
    Raises ValueError for a model whose cached states this batching cannot keep (`compatibility.py`).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        slots: int,
        max_len: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        compile_model: bool = False,
        fused: bool = True,
        paged: bool | None = None,
    ) -> None:
        require_supported(model, max_len)
        self.model = model.requires_grad_(False)
        self.model.to(device=device, dtype=dtype)  # type: ignore[call-arg]  # wrapped in transformers
        self.model.train(False)
        self.model.set_attn_implementation(SLOT_ATTENTION)
        fuse = fused and not compile_model and self.model.config.model_type in FAMILIES
        self._fused = FusedDecoder(self.model, max_len) if fuse else None
        self.adapters = AdapterBank(self.model, self._fused.linears if self._fused else None)
        self._slots = slots
        self.kv: KVSlots | PagedKV = KVSlots(slots, max_len)
        self._batch = SlotBatch(self.kv, self.model.device)
        self._rows: RowDecoder | None = None
        if self._fused is not None and (runs_over_pages(self.model.device) if paged is None else paged):
            self.kv = paged_storage(self._fused, slots + SPARE_SLOTS, max_len, self._fused.rotation)
            self._rows = row_decoder(self._fused, self.adapters, self.kv)
        self._model: Any = self.model
        self._vocab_rows: int = self._probe()
        if compile_model:
            self._model = torch.compile(self.model, dynamic=True)

    @property
    def vocab_rows(self) -> int:
        """Rows of the logits, padding included."""
        return self._vocab_rows

    @property
    def nbytes(self) -> int:
        """Weights, adapters and key/value storage, in bytes."""
        parameters = sum(p.nbytes for p in self.model.parameters())
        rows = self._rows.nbytes if self._rows else 0
        return parameters + self.adapters.nbytes + self.kv.nbytes + rows

    def warm(self) -> None:
        """Make what the first batches would otherwise wait for: the graphs, with the adapters that are installed."""
        if self._rows is not None:
            self._rows.warm(rows for rows in BUCKETS if rows <= self._slots or rows == MOST_ROWS)

    def forward(self, batch: Sequence[Work]) -> list[Tensor]:
        """Logits of each entry: [rows, vocab_rows] float32, in the batch's order."""
        return list(torch.split(self.forward_packed(batch), [len(work.kept) for work in batch]))

    def forward_packed(self, batch: Sequence[Work]) -> Tensor:
        """The same as one tensor [Σ rows, vocab_rows] float32, entries one after the other.

        Raises OffsetUnavailable where the device has no memory for the new tokens' keys and values.
        """
        self._check(batch)
        if self._rows is not None and isinstance(self.kv, PagedKV):
            return through_rows(batch, self.kv, self._rows)
        return self._forward(batch, self._batch)

    def rehearse(self, batch: Sequence[Work]) -> tuple[Tensor, set[str]]:
        """As `forward_packed`, with slots of its own; and the layers that the adapters name and the forward left out.

        The slots are numbered from 0 and hold the longest entry; what streams have stored is not touched.
        """
        longest = max(work.start + len(work.token_ids) for work in batch)
        if self._rows is not None and self._fused is not None:
            pages = paged_storage(self._fused, len(batch), longest, self._fused.rotation)
            tokens = sum(len(work.token_ids) for work in batch)
            logits = through_rows(batch, pages, row_decoder(self._fused, self.adapters, pages, tokens))
        else:
            own = SlotBatch(KVSlots(len(batch), longest), self.model.device)
            logits = self._forward(batch, own, watched=True)
        adapters = {work.adapter for work in batch if work.adapter is not None}
        return logits, {name for adapter in adapters for name in self.adapters.idle(adapter)}

    @torch.inference_mode()
    def _forward(self, batch: Sequence[Work], slots: SlotBatch, *, watched: bool = False) -> Tensor:
        order = sorted(range(len(batch)), key=lambda i: _packing_key(batch[i]))
        packed = [batch[i] for i in order]
        slots.plan([Entry(w.slot, w.start, len(w.all_ids), w.branches) for w in packed])
        wanted = [(w.adapter, len(w.kept)) for w in batch] if self.adapters.adapts_head else ()
        self.adapters.route([(w.adapter, len(w.all_ids)) for w in packed], wanted, watched=watched)
        token_ids = self._tensor([t for w in packed for t in w.all_ids])
        kept = self._tensor(_kept_rows(batch, order))
        if self._fused is not None:
            return self._fused(token_ids, self._fused.over_slots(slots), kept).float()
        return self._through_transformers(token_ids, kept, slots)

    def _through_transformers(self, token_ids: Tensor, kept: Tensor, slots: SlotBatch) -> Tensor:
        output = self._model(
            input_ids=token_ids[None],
            position_ids=slots.positions[None],
            use_cache=False,
            logits_to_keep=kept,
            slot_batch=slots,
        )
        logits: Tensor = output.logits[0]
        if len(logits) != len(kept):  # a model that takes the option and does not heed it
            raise ValueError(f"{type(self.model).__name__} gave {len(logits)} rows of logits for {len(kept)}.")
        return logits.float()

    def _tensor(self, values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.model.device)

    def _check(self, batch: Sequence[Work]) -> None:
        if not batch:
            raise ValueError("A batch needs at least one entry.")
        if len({work.slot for work in batch}) != len(batch):
            raise ValueError("A slot may appear only once in a batch.")
        for work in batch:
            n = len(work.all_ids)
            if not (0 <= work.slot < self._slots and n and 0 <= work.rows <= len(work.token_ids)):
                raise ValueError(f"Malformed work: slot {work.slot}, {n} tokens, {work.rows} rows.")
            if work.start < 0 or work.start + n > self.kv.max_len:
                raise ValueError(f"Positions {work.start}..{work.start + n} do not fit into {self.kv.max_len}.")

    def _probe(self) -> int:
        """One token through the model: reserves the storage and proves that every layer attends through the slots."""
        logits = self.forward_packed([Work(slot=0, start=0, token_ids=[0])])
        self.kv.keep(0, 0)
        expected = set(range(self.model.config.num_hidden_layers))
        if isinstance(self.kv, KVSlots) and set(self.kv.layers) != expected:
            raise ValueError(f"{type(self.model).__name__} does not attend through the key/value slots in every layer.")
        return int(logits.shape[1])


def through_rows(batch: Sequence[Work], pages: PagedKV, rows: RowDecoder) -> Tensor:
    """As `Runner.forward_packed`; the sequences in the order of the batch, then their branches.

    Raises OffsetUnavailable where the device has no memory for what is new.
    """
    logits = _rows_of([work for work in batch if work.token_ids], pages, rows)
    if all(work.branches is None for work in batch):
        return logits
    parts = list(torch.split(logits, [work.rows for work in batch]))
    for i, told in _rows_of_branches(batch, pages, rows).items():
        parts[i] = torch.cat((parts[i], told))
    return torch.cat(parts)


def _rows_of(works: Sequence[Work], pages: PagedKV, rows: RowDecoder) -> Tensor:
    """[Σ rows, V] of sequences without their branches."""
    wanted: list[int] = []
    end = 0
    for work in works:
        pages.reserve(work.slot, work.start, work.start + len(work.token_ids))
        end += len(work.token_ids)
        wanted.extend(range(end - work.rows, end))
    return rows(
        Rows(
            [t for w in works for t in w.token_ids],
            [w.start + i for w in works for i in range(len(w.token_ids))],
            [w.slot for w in works for _ in w.token_ids],
            [-1 if w.adapter is None else w.adapter for w in works for _ in w.token_ids],
        ),
        wanted,
    )


def _rows_of_branches(batch: Sequence[Work], pages: PagedKV, rows: RowDecoder) -> dict[int, Tensor]:
    """By place in the batch, the wanted rows of its branches: each path in a spare slot, which shares whole pages."""
    told: dict[int, dict[int, Tensor]] = {i: {} for i, work in enumerate(batch) if work.branches is not None}
    paths = [(i, *path) for i in told for path in paths_to(_branches(batch[i]))]
    spare = range(pages.slots - SPARE_SLOTS, pages.slots)
    for first in range(0, len(paths), SPARE_SLOTS):
        group = paths[first : first + SPARE_SLOTS]
        works = []
        for slot, (i, start, line, _) in zip(spare, group, strict=False):
            if pages.copy(batch[i].slot, slot, 0, start) < start:
                raise OffsetUnavailable("No memory is left on the device for the keys and values of other ways on.")
            ids = [_branches(batch[i]).token_ids[place] for place in line]
            works.append(Work(slot, start, ids, batch[i].adapter, rows=len(ids)))
        logits = torch.split(_rows_of(works, pages, rows), [work.rows for work in works])
        for (i, _, line, mine), part in zip(group, logits, strict=True):
            told[i].update((place, part[line.index(place)]) for place in mine)
        pages.clear(spare)
    return {i: torch.stack([known[p] for p in _branches(batch[i]).wanted]) for i, known in told.items()}


def _branches(work: Work) -> Branches:
    if work.branches is None:
        raise ValueError("This work has no branches.")
    return work.branches


def _packing_key(work: Work) -> tuple[int, bool, int, int]:
    """Adapters contiguous (base first), then equal lengths together, then neighbouring slots together."""
    adapter = -1 if work.adapter is None else work.adapter
    return (adapter, work.branches is not None, len(work.token_ids), work.slot)


def _kept_rows(batch: Sequence[Work], order: Sequence[int]) -> list[int]:
    """Packed positions of the wanted logits, in the order of the batch."""
    starts = [0] * len(batch)
    end = 0
    for i in order:
        starts[i], end = end, end + len(batch[i].all_ids)
    return [start + place for start, work in zip(starts, batch, strict=True) for place in work.kept]
