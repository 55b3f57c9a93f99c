"""From the pair's logits along a text to logits of the black box's tokens: δ is the difference between two of these.

z(v) = log P(t + bytes(v)) − log P(t) from the rows that `aligned` names, as docs/bridge.md defines both, in float64. It
is no distribution: a text counts for every token that begins it. Losses take differences of z_u and z_o and divide by a
sum over all tokens, so a constant of a row does not matter.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deltaserve.offset_models.bridge.bridge import Bridge
from deltaserve.offset_models.bridge.probabilities import TINY
from deltaserve.offset_models.bridge.row import UNTOLD, Reader
from deltaserve.offset_models.training.bridging.aligned import Aligned
from deltaserve.offset_models.training.bridging.sums import TextRows


@dataclass(frozen=True)
class Projection:
    """For one bridge, on one device."""

    bridge: Bridge
    device: torch.device

    def of(self, logits: Tensor, aligned: Aligned) -> Tensor:
        """`log_table` in float32, as losses take it."""
        return self.log_table(logits, aligned).float()

    def shape(self, logits: Tensor, aligned: Aligned) -> Tensor:
        """log p_o of an imputed tail [n, V] float32, as `Reader.shape`: a distribution over the black box's ids."""
        reach = self._reach(self._rows(logits), aligned)
        return torch.cat([self._reader.shape(of_one)[None] for of_one in reach]).float()

    def log_table(self, logits: Tensor, aligned: Aligned) -> Tensor:
        """z [n, V] float64 of the black box's ids at the n places, from the pair's logits [rows, W] along the text.

        `UNTOLD` for ids of which the rows tell nothing; the whole row is 0 where they tell of none.
        """
        rows, told = self._rows(logits), aligned.told
        reach, before = self._reach(rows, aligned), aligned.begun.logs(rows)
        z = (reach.clamp(min=TINY).log() - before[:, None]).masked_fill(reach == 0, UNTOLD)
        at, ids = self._long(told.at), self._long(told.ids)
        z = z.index_put((at, ids), told.sums.logs(rows) - before[at])
        return z.masked_fill(aligned.lost.to(self.device)[:, None], 0.0)

    def _reach(self, rows: TextRows, aligned: Aligned) -> Tensor:
        """What the open nodes tell of P(t + bytes(v)), [n, V], as `Reader.reach`; ends included."""
        ways, masses = aligned.open, aligned.open.ways.masses(rows)
        at, row = self._long(ways.at), self._long(ways.row)
        whole = torch.tensor(
            [number for number, rest in enumerate(ways.rests) if not rest], dtype=torch.long, device=self.device
        )
        tables = self._reader.by_interval(rows.probabilities[row[whole]]) * masses[whole, None]
        one_each = len(whole) == aligned.places and torch.equal(at[whole], torch.arange(aligned.places).to(at))
        reach = (
            tables if one_each else tables.new_zeros(aligned.places, tables.shape[1]).index_add(0, at[whole], tables)
        )
        ending = masses.new_zeros(aligned.places).index_add(0, at[whole], masses[whole] * rows.ends[row[whole]])
        ends = torch.tensor(self._reader.ends, dtype=torch.long, device=self.device)
        reach = reach.index_copy(1, ends, ending[:, None].expand(-1, len(ends)))
        return self._with_pieces(rows, reach, aligned, masses)

    def _with_pieces(self, rows: TextRows, reach: Tensor, aligned: Aligned, masses: Tensor) -> Tensor:
        """With the tokens that end what a node leaves of t and go on behind it."""
        found = []
        for number, rest in enumerate(aligned.open.rests):
            if rest:
                ids, spots = self._reader.behind(rest)
                found.append(torch.stack([ids, spots, torch.full_like(ids, number)]))
        if not found:
            return reach
        ids, spots, number = torch.cat(found, 1)
        at, row = self._long(aligned.open.at)[number], self._long(aligned.open.row)[number]
        return reach.index_put((at, ids), rows.probabilities[row, spots] * masses[number], accumulate=True)

    def _rows(self, logits: Tensor) -> TextRows:
        tokenizer = self.bridge.pair.tokenizer
        known = logits[:, : tokenizer.vocab_size]
        known = known.to(torch.promote_types(known.dtype, torch.float32))
        if tokenizer.masked_ids:
            known = known.index_fill(1, torch.tensor(list(tokenizer.masked_ids), device=self.device), -torch.inf)
        log_p = known.log_softmax(1)
        in_order = torch.take_along_dim(log_p, self._order[None], 1)  # in half the time of an index
        return TextRows(in_order.double(), log_p[:, self._ends].double().exp().sum(1))

    def _long(self, numbers: Tensor) -> Tensor:
        return numbers.to(self.device, torch.long)

    @cached_property
    def _reader(self) -> Reader:
        return self.bridge.reader.on(self.device)

    @cached_property
    def _order(self) -> Tensor:
        return self.bridge.pair.vocabulary.order.to(self.device)

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor(self.bridge.pair.ends, dtype=torch.long, device=self.device)
