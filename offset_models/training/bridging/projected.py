"""From the pair's logits along a text to logits of the black box's tokens: δ is the difference between two of these.

z(v) = log P(t + bytes(v)) − log P(t) from the rows that `aligned` names, as docs/bridge.md defines both, in float64. It
is no distribution: a text counts for every token that begins it. Losses take differences of z_u and z_o and divide by a
sum over all tokens, so a constant of a row does not matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deltaserve.offset_models.bridge.bridge import Bridge
from deltaserve.offset_models.bridge.probabilities import TINY
from deltaserve.offset_models.bridge.row import UNTOLD, Reader
from deltaserve.offset_models.training.bridging.aligned import Aligned, Place, Steps, Term, Way


@dataclass(frozen=True)
class Projection:
    """For one bridge, on one device."""

    bridge: Bridge
    device: torch.device

    def of(self, logits: Tensor, aligned: Aligned) -> Tensor:
        """`log_table` in float32, as losses take it."""
        return self.log_table(logits, aligned).float()

    def log_table(self, logits: Tensor, aligned: Aligned) -> Tensor:
        """z [n, V] float64 of the black box's ids at the n places, from the pair's logits [rows, W] along the text.

        `UNTOLD` for ids of which the rows tell nothing; the whole row is 0 where they tell of none.
        """
        log_p = self._log_p(logits)
        rows = _Rows(log_p[:, self._order], log_p[:, self._ends].exp().sum(1))
        reach = self._reach(rows, aligned.places)
        before = rows.log_sums([place.begun for place in aligned.places])
        z = (reach.clamp(min=TINY).log() - before[:, None]).masked_fill(reach == 0, UNTOLD)
        z = self._told(rows, z, aligned.places)
        lost = torch.tensor([not place.ways for place in aligned.places], device=z.device)
        return z.masked_fill(lost[:, None], 0.0)

    def _reach(self, rows: "_Rows", places: Sequence[Place]) -> Tensor:
        """What the open nodes tell of P(t + bytes(v)), [n, V], as `Reader.reach`; ends included."""
        whole = [(at, way) for at, place in enumerate(places) for way in place.ways if not way.rest]
        begun = [(at, way) for at, place in enumerate(places) for way in place.ways if way.rest]
        reach = rows.probabilities.new_zeros(len(places), self._reader.size)
        if whole:
            at, row = rows.index([at for at, _ in whole]), rows.index([way.row for _, way in whole])
            mass = rows.masses([way.steps for _, way in whole])
            tables = self._reader.by_interval(rows.probabilities[row]) * mass[:, None]
            ending = mass.new_zeros(len(places)).index_add(0, at, mass * rows.ends[row])
            reach = reach.index_add(0, at, tables)
            ends = rows.index(self._reader.ends)
            reach = reach.index_copy(1, ends, ending[:, None].expand(-1, len(ends)))
        return self._with_pieces(rows, reach, begun) if begun else reach

    def _with_pieces(self, rows: "_Rows", reach: Tensor, begun: Sequence[tuple[int, Way]]) -> Tensor:
        """With the tokens that end what a node leaves of t and go on behind it."""
        mass, found = rows.masses([way.steps for _, way in begun]), []
        for number, (at, way) in enumerate(begun):
            ids, spots = self._reader.behind(way.rest)
            found.append(torch.stack([ids, spots, *(torch.full_like(ids, n) for n in (at, way.row, number))]))
        ids, spots, at, row, number = torch.cat(found, 1)
        return reach.index_put((at, ids), rows.probabilities[row, spots] * mass[number], accumulate=True)

    def _told(self, rows: "_Rows", z: Tensor, places: Sequence[Place]) -> Tensor:
        """With the ids that were looked at one by one."""
        found = [
            (at, token, terms, place.begun)
            for at, place in enumerate(places)
            if place.ways
            for token, terms in place.told.items()
        ]
        if not found:
            return z
        where, ids, after, before = zip(*found, strict=True)
        index = torch.tensor(where, device=z.device), torch.tensor(ids, device=z.device)
        return z.index_put(index, rows.log_sums(after) - rows.log_sums(before))

    def _log_p(self, logits: Tensor) -> Tensor:
        """[rows, W] float64 over the ids that the pair's tokenizer has."""
        tokenizer = self.bridge.pair.tokenizer
        known = logits[:, : tokenizer.vocab_size]
        known = known.to(torch.promote_types(known.dtype, torch.float32))
        if tokenizer.masked_ids:
            masked = torch.tensor(list(tokenizer.masked_ids), device=logits.device)
            known = known.index_fill(1, masked, -torch.inf)
        return known.log_softmax(1).double()

    @cached_property
    def _reader(self) -> Reader:
        return self.bridge.reader.on(self.device)

    @cached_property
    def _order(self) -> Tensor:
        return self.bridge.pair.vocabulary.order.to(self.device)

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor(self.bridge.pair.ends, dtype=torch.long, device=self.device)


@dataclass(frozen=True)
class _Rows:
    """The pair's rows along one text."""

    log_p: Tensor  # [rows, T] in the order of bytes
    ends: Tensor  # [rows] probability of all tokens that end an answer

    @cached_property
    def probabilities(self) -> Tensor:
        return self.log_p.exp()

    def log_sums(self, sums: Sequence[Sequence[Term]]) -> Tensor:
        """log P(x) of each x by its terms, [sums]; 0 of one without terms, which is that of no bytes."""
        terms = [(number, term) for number, of_one in enumerate(sums) for term in of_one]
        ones = self.index([number for number, of_one in enumerate(sums) if not of_one])
        total = self.log_p.new_zeros(len(sums)).index_fill(0, ones, 1.0)
        if terms:
            each = self.masses([term.steps for _, term in terms]) * self._intervals([t for _, t in terms])
            total = total.index_add(0, self.index([number for number, _ in terms]), each)
        return total.clamp(min=TINY).log()

    def _intervals(self, terms: Sequence[Term]) -> Tensor:
        """What the tokens of each interval have together, [terms]."""
        flat = [(number, term.row, at) for number, term in enumerate(terms) for at in range(term.first, term.end)]
        number, row, at = (self.index(column) for column in zip(*flat, strict=True))
        return self.log_p.new_zeros(len(terms)).index_add(0, number, self.probabilities[row, at])

    def masses(self, ways: Sequence[Steps]) -> Tensor:
        """Probability of the tokens of each way, [ways]; 1 of none."""
        flat = [(number, row, place) for number, steps in enumerate(ways) for row, place in steps]
        if not flat:
            return self.log_p.new_ones(len(ways))
        number, row, place = (self.index(column) for column in zip(*flat, strict=True))
        return self.log_p.new_zeros(len(ways)).index_add(0, number, self.log_p[row, place]).exp()

    def index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.log_p.device)


def deepest(places: Sequence[Place]) -> Iterator[int]:
    """The row behind all that is certain at each place, by which a gate is judged."""
    row = 0
    for place in places:
        row = place.ways[-1].row if place.ways else row
        yield row
