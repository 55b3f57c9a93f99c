"""Sums of probabilities along one text, as few numbers: which rows and which places, ready for a device.

A *step* is one token on a way, at a row of the text and a place in the order of bytes. A *way* is a sequence of steps,
a *term* a way and an interval of places behind it, and P(x) the sum of the terms of x.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from deltaserve.offset_models.bridge.probabilities import TINY

Steps = tuple[tuple[int, int], ...]  # (row, place)


class Term(NamedTuple):
    """The probability of a way, times that of all tokens of one interval behind it."""

    steps: Steps
    row: int
    first: int  # places
    end: int


@dataclass(frozen=True)
class TextRows:
    """The pair's rows along one text."""

    log_p: Tensor  # [rows, T] float64, in the order of bytes
    ends: Tensor  # [rows] probability of all tokens that end an answer

    @cached_property
    def probabilities(self) -> Tensor:
        return self.log_p.exp()


@dataclass(frozen=True, slots=True)
class Ways:
    """`count` ways; each step names its way."""

    count: int
    steps: Tensor  # [3, steps] int32: way, row, place

    @classmethod
    def of(cls, ways: Sequence[Steps]) -> "Ways":
        return cls(len(ways), _columns(3, ((way, *step) for way, steps in enumerate(ways) for step in steps)))

    def part(self, first: int, end: int) -> "Ways":
        """Those from `first` on up to `end`."""
        return Ways(end - first, part_of(self.steps, first, end))

    def from_row(self, first: int) -> "Ways":
        """Of a text that begins at this row."""
        return Ways(self.count, _shifted(self.steps, 1, first))

    def masses(self, rows: TextRows) -> Tensor:
        """Probability of the tokens of each way, [count]; 1 of none."""
        way, row, place = self.steps.to(rows.log_p.device, torch.long)
        return rows.log_p.new_zeros(self.count).index_add(0, way, rows.log_p[row, place]).exp()


@dataclass(frozen=True, slots=True)
class Sums:
    """`count` sums; each term names its sum."""

    count: int
    ways: Ways
    terms: Tensor  # [4, terms] int32: sum, row, first, end
    empty: Tensor  # [·] int32: sums without terms

    @classmethod
    def of(cls, sums: Sequence[Sequence[Term]]) -> "Sums":
        terms = [(number, term) for number, of_one in enumerate(sums) for term in of_one]
        return cls(
            len(sums),
            Ways.of([term.steps for _, term in terms]),
            _columns(4, ((number, term.row, term.first, term.end) for number, term in terms)),
            _columns(1, ((number,) for number, of_one in enumerate(sums) if not of_one))[0],
        )

    def part(self, first: int, end: int) -> "Sums":
        """Those from `first` on up to `end`."""
        within = slice_of(self.terms[0], first, end)
        ways, empty = self.ways.part(within.start, within.stop), part_of(self.empty[None], first, end)[0]
        return Sums(end - first, ways, _shifted(self.terms[:, within], 0, first), empty)

    def from_row(self, first: int) -> "Sums":
        """Of a text that begins at this row."""
        return Sums(self.count, self.ways.from_row(first), _shifted(self.terms, 1, first), self.empty)

    def logs(self, rows: TextRows) -> Tensor:
        """log P(x) of each, [count]; 0 of one without terms, which is that of no bytes."""
        sums, row, first, end = self.terms.to(rows.log_p.device, torch.long)
        width = end - first
        term = torch.arange(len(sums), device=row.device).repeat_interleave(width)
        within = torch.arange(len(term), device=row.device) - (width.cumsum(0) - width)[term]
        intervals = rows.log_p.new_zeros(len(sums)).index_add(
            0, term, rows.probabilities[row[term], first[term] + within]
        )
        total = rows.log_p.new_zeros(self.count).index_fill(0, self.empty.to(row.device, torch.long), 1.0)
        return total.index_add(0, sums, self.ways.masses(rows) * intervals).clamp(min=TINY).log()


def slice_of(numbers: Tensor, first: int, end: int) -> slice:
    """Where ascending numbers are at least `first` and below `end`."""
    bounds = torch.tensor([first, end], dtype=numbers.dtype)
    start, stop = torch.searchsorted(numbers.contiguous(), bounds).tolist()
    return slice(start, stop)


def part_of(columns: Tensor, first: int, end: int) -> Tensor:
    """Those of the columns whose number, in row 0, is in the range; numbered from 0."""
    return _shifted(columns[:, slice_of(columns[0], first, end)], 0, first)


def _shifted(columns: Tensor, row: int, by: int) -> Tensor:
    shifted = columns.clone()
    shifted[row] -= by
    return shifted


def _columns(width: int, numbers: Iterable[tuple[int, ...]]) -> Tensor:
    """[width, n] int32 of n tuples of so many numbers."""
    return torch.tensor(list(numbers), dtype=torch.int32).reshape(-1, width).T.contiguous()
