"""The pair's rows as one offset row of the black box's vocabulary.

Ids that are asked for and can matter are exact: they had the rows of all their nodes. The others are read from the
rows that are there: the sum at the open nodes, without what a pair needs more tokens for. So their offset has no bound,
and no step is certified that depends on one. An id of which the open nodes tell nothing has no weight in an imputed
tail.

Some ids have no offset at all (`BridgedRow.untold`): special tokens that no role joins to the pair's, bytes that the
pair's tokenizer cannot write, and of ids that were not asked for those of which the open nodes tell nothing. Their δ is
0, so that the others keep their share; none of them may be emitted.

The shape of that tail, log p_o, is a distribution: a text counts for the longest of the black box's tokens that
begins it. (P itself counts it for all of them.)
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.bridge.probabilities import TINY, NodeRow
from deltaserve.offset_models.bridge.tables import IntervalTables
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary
from deltaserve.server.decoding.protocols import Floats, Ids
from deltaserve.server.decoding.rows import Array, NumpyRow, NumpyTail

UNTOLD: Final = -800.0  # log p_o of an id that the pair tells nothing of: no weight, and yet a token


@dataclass(frozen=True, slots=True)
class OpenNode:
    """A node of the bytes that are not settled, or a path that spells them."""

    mass: Tensor  # [members]
    rest: bytes  # what it leaves of them
    row: NodeRow


class Reading(NamedTuple):
    """What the open nodes of a place tell, whatever is listed there."""

    reach: Tensor  # [members, V] as `Reader.reach`
    log_base: Tensor  # [V] as `Reader.shape` of the first member; -inf at ids that the black box does not have


class Reader:
    """Reads the black box's vocabulary from open nodes."""

    def __init__(self, box: ByteVocabulary, pair: ByteVocabulary, tables: IntervalTables, ends: Sequence[int]) -> None:
        """`ends`: the black box's ids that end an answer. What is read lies on the device of the tables."""
        self.box, self.pair, self._tables = box, pair, tables
        self.size, self._device = len(box.spellings), tables.first.device
        first, end = tables.first.long(), tables.end.long()
        self._single = (end - first == 1).nonzero()[:, 0]
        self._wide = (end - first > 1).nonzero()[:, 0]
        self._of_single = first[self._single]
        self._of_wide = first[self._wide], end[self._wide]
        self._child = (tables.parent >= 0).nonzero()[:, 0]
        self._parent = tables.parent[self._child].long()
        self.ends = list(ends)
        self._ends = torch.tensor(self.ends, dtype=torch.long, device=self._device)
        self.behind = lru_cache(1024)(self._pieces)

    def on(self, device: torch.device) -> "Reader":
        """The same one on another device."""
        tables = IntervalTables(
            *(each.to(device) for each in (self._tables.first, self._tables.end, self._tables.parent))
        )
        return Reader(self.box, self.pair, tables, self.ends)

    def read(self, nodes: Sequence[OpenNode], masked: Sequence[int] = ()) -> Reading:
        """`masked`: ids that the black box's tokenizer does not have."""
        reach = self.reach(nodes)
        log_base = self.shape(reach[0])
        log_base[list(masked)] = -math.inf
        return Reading(reach, log_base)

    def reach(self, nodes: Sequence[OpenNode]) -> Tensor:
        """What the open nodes tell of P(t + bytes(v)) for every id v of the black box, [members, V]; ends included."""
        total = torch.zeros(len(nodes[0].mass), self.size, dtype=torch.float64, device=self._device)
        for node in nodes:
            if node.rest:
                ids, places = self.behind(node.rest)
                total.index_add_(1, ids, node.row.probabilities[:, places] * node.mass[:, None])
            else:
                total += self.by_interval(node.row.probabilities) * node.mass[:, None]
        total[:, self._ends] = _ending(nodes)[:, None]
        return total

    def shape(self, reach: Tensor) -> Tensor:
        """log of the distribution over the black box's tokens that one member's `reach` [V] amounts to, [V]."""
        mass = reach.clone()
        mass.index_add_(0, self._parent, reach[self._child], alpha=-1.0)
        mass[self._ends] /= max(1, len(self._ends))
        mass.clamp_(min=0.0)
        return (mass / mass.sum().clamp(min=TINY)).log().clamp_(min=UNTOLD)

    def by_interval(self, probabilities: Tensor) -> Tensor:
        """Σ of each id's interval, [members, V]. Intervals of one token are not subtracted: they keep all digits."""
        sums = torch.nn.functional.pad(probabilities.cumsum(-1), (1, 0))
        first, end = (_taken(sums, places) for places in self._of_wide)
        masses = probabilities.new_zeros(len(probabilities), self.size)
        masses.index_copy_(1, self._wide, (end - first).clamp_(min=0.0))
        return masses.index_copy_(1, self._single, _taken(probabilities, self._of_single))

    def _pieces(self, rest: bytes) -> tuple[Tensor, Tensor]:
        """(id, place) of every token of the pair that begins with the rest and then with that id's bytes."""
        found = list(self._piece_pairs(rest))
        ids, places = torch.tensor(found, dtype=torch.long, device=self._device).reshape(-1, 2).unbind(1)
        return ids, places

    def _piece_pairs(self, rest: bytes) -> Iterator[tuple[int, int]]:
        first, end = self.pair.interval(rest)
        for place in range(first, end):
            more = self.pair.words[place][len(rest) :]
            for token_id in (*self.box.prefixes(more), *self.box.spelled(more)):
                yield token_id, place


def _taken(rows: Tensor, places: Tensor) -> Tensor:
    """Columns of each row; a gather takes a third of the time of `rows[:, places]`."""
    return torch.take_along_dim(rows, places[None], 1)


def _ending(nodes: Sequence[OpenNode]) -> Tensor:
    """Probability that the answer ends right here, [members]."""
    whole = [node.mass * node.row.ends for node in nodes if not node.rest]
    return torch.stack(whole).sum(0) if whole else torch.zeros_like(nodes[0].mass)


class BridgedTail(NumpyTail):
    """A tail whose offsets are bounded only where all of them are exact."""

    def __init__(self, row: "BridgedRow", explicit: Ids, log_scale: float, log_cap: float) -> None:
        super().__init__(row, explicit, log_scale, log_cap)
        inexact = row.inexact.copy()
        inexact[explicit] = False
        self._bounded = not inexact.any()

    def max_offset(self) -> float:
        return super().max_offset() if self._bounded else math.inf


class BridgedRow(NumpyRow):
    """`OffsetRow` of the black box's vocabulary.

    `inexact` [V] bool: ids whose offset is no more than a reading. `untold` [V] bool: ids that have none.
    """

    def __init__(
        self, log_base: Array, log_offset: Array, inexact: NDArray[np.bool_], untold: NDArray[np.bool_]
    ) -> None:
        super().__init__(log_base, log_offset)
        self.inexact = inexact & self.known
        self.untold = untold
        if self.inexact.any():
            self.max_offset = math.inf

    def without(self, ids: Ids) -> "BridgedRow":
        """The row in which these ids have no weight."""
        offset = self.log_offset.copy()
        offset[ids] = -math.inf
        return BridgedRow(self.log_base, offset, self.inexact, self.untold)

    def tail(self, explicit: Ids, log_scale: float, log_cap: float) -> BridgedTail:
        return BridgedTail(self, explicit, log_scale, log_cap)


def bridged_row(
    reading: Reading,
    before: Tensor,
    told: Mapping[int, Floats],
    exact: Collection[int],
    strengths: Sequence[float] = (1.0,),
) -> BridgedRow:
    """The row behind t of Σ_j α_j·δ_j, members (o, u) of one pair after the other; `strengths` [pairs].

    `before` [members]: P(t). `told`: P(t + bytes(v)) [members] of the ids v that were asked for; `exact`: those of them
    that had the rows of all their nodes, or ends.
    Raises OffsetUnavailable where the rows are not finite, and where a member gives what was emitted no probability:
    nothing is known behind it.
    """
    if not (before > 0).all():  # true for NaN too
        raise OffsetUnavailable("the offset pair gives what was said so far no probability")
    reach = reading.reach.clone()
    if told:
        reach[:, list(told)] = torch.from_numpy(np.stack(list(told.values()), axis=1))
    untold = (reach[::2] == 0).any(0)  # false for NaN, which the row refuses
    offset = _offsets(reach, before, strengths).masked_fill_(untold, 0.0)
    inexact = np.ones(reach.shape[1], bool)
    inexact[list(exact)] = False
    return BridgedRow(reading.log_base.numpy(), offset.numpy(), inexact, untold.numpy())


def _offsets(reach: Tensor, before: Tensor, strengths: Sequence[float]) -> Tensor:
    """Σ_j α_j·δ_j of every id, [V]."""
    logs = reach.clamp(min=TINY).log() - before.log()[:, None]
    return torch.tensor(strengths, dtype=torch.float64) @ (logs[1::2] - logs[::2])
