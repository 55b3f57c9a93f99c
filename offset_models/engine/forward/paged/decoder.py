"""A decoder over rows: every token is a row of its own, whatever sequence, length and adapter it has.

A step is one copy to the device and one graph per `MOST_ROWS` rows, prompts too. A graph belongs to a number of rows
(`BUCKETS`); the lengths, pages and adapters of its rows are data. Without a GPU the same functions run uncaptured.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deltaserve.offset_models.engine.forward.fused import Attention, FusedDecoder, Gate
from deltaserve.offset_models.engine.forward.lora import AdapterBank
from deltaserve.offset_models.engine.forward.paged.graphs import Graphs
from deltaserve.offset_models.engine.forward.paged.inputs import RowInputs, Rows, RowTensors
from deltaserve.offset_models.engine.forward.paged.pages import PagedKV
from deltaserve.offset_models.engine.forward.stacked import RowAdapters

BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
MOST_ROWS: Final = BUCKETS[-1]

AttentionOf = Callable[[FusedDecoder, RowTensors], Attention]


@dataclass(frozen=True, slots=True)
class RowOperations:
    """What has a form of its own on a GPU."""

    attention: AttentionOf
    gate: Gate
    adapters: type[RowAdapters]


class RowDecoder:
    """Logits of rows. One thread uses it. `captured`: as graphs (on a GPU only); may be turned off, to compare."""

    def __init__(
        self,
        decoder: FusedDecoder,
        adapters: AdapterBank,
        pages: PagedKV,
        operations: RowOperations,
        *,
        captured: bool,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self.captured = captured
        self.device = pages.anchor.device
        self._decoder, self._adapters, self._operations = decoder, adapters, operations
        self._inputs = RowInputs(pages, most_rows, self.device)
        self._most = most_rows
        self._logits = torch.empty((most_rows, decoder.vocab_rows), dtype=pages.anchor.dtype, device=self.device)
        self._graphs = Graphs(self._compute, self.device) if captured else None
        self._installed: frozenset[int] = frozenset()  # the adapters that the graphs know

    @property
    def nbytes(self) -> int:
        """Of the tensors that stay where they are; the graphs' own memory is not known."""
        return self._logits.nbytes

    @torch.inference_mode()
    def warm(self, buckets: Iterable[int] = BUCKETS) -> None:
        """Capture graphs now, so that no stream waits for it; nothing where they are there already."""
        graphs = self._current_graphs()
        if graphs is not None:
            self._inputs.load(Rows((), (), (), ()))
            for bucket in sorted(buckets, reverse=True):  # the smaller ones use the memory of the largest again
                graphs.graph(bucket)

    @torch.inference_mode()
    def __call__(self, rows: Rows, wanted: Sequence[int]) -> Tensor:
        """Logits [len(wanted), V] float32 at `wanted`, ascending places in `rows`; in memory of their own."""
        self._adapters.require({adapter for adapter in rows.adapters if adapter >= 0})
        logits = torch.empty((len(wanted), self._decoder.vocab_rows), dtype=torch.float32, device=self.device)
        for start in range(0, len(rows), self._most):
            part = rows.part(start, start + self._most)
            low, high = bisect_left(wanted, start), bisect_left(wanted, start + len(part))
            kept = [place - start for place in wanted[low:high]]
            self._inputs.load(part, kept)
            self._run(self.bucket(len(part)))
            if kept:
                logits[low:high] = self._picked(kept)
        return logits

    def _picked(self, kept: Sequence[int]) -> Tensor:
        n = len(kept)
        if kept[-1] == n - 1:  # all of the first rows
            return self._logits[:n]
        return self._logits.index_select(0, self._inputs.first(n).kept)

    def bucket(self, rows: int) -> int:
        """How many rows are run for so many."""
        return min(self._most, BUCKETS[bisect_left(BUCKETS, rows)])

    def _run(self, bucket: int) -> None:
        graphs = self._current_graphs()
        if graphs is None:
            self._compute(bucket)
        else:
            graphs.replay(bucket)

    def _current_graphs(self) -> Graphs | None:
        """None: nothing is captured. Graphs do not outlive the set of adapters that they were captured with."""
        if self._graphs is None or not self.captured:
            return None
        if self._installed != self._adapters.installed:
            self._graphs.clear()
            self._installed = self._adapters.installed
        return self._graphs

    def _compute(self, bucket: int) -> object:
        """From the inputs to `_logits`; returns what a graph of it reads beside them."""
        rows = self._inputs.first(bucket)
        run = self._operations
        used = self._adapters.route_rows(rows.adapters, run.adapters)
        attend = run.attention(self._decoder, rows)
        self._decoder(rows.token_ids, attend, gate=run.gate, out=self._logits[:bucket])
        return used
