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


def _columns(width: int, numbers: Iterable[tuple[int, ...]]) -> Tensor:
    """[width, n] int32 of n tuples of so many numbers."""
    return torch.tensor(list(numbers), dtype=torch.int32).reshape(-1, width).T.contiguous()
