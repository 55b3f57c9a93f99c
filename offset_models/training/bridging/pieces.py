"""One row a few places at a time: its tables take megabytes a place, for two vocabularies in float64."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from deltaserve.offset_models.training.bridging.aligned import Aligned

PIECE_BYTES: Final = 256 << 20  # of what is worked with, as `Sizes` has it
Project = Callable[[Tensor, Aligned], Tensor]  # from logits [rows, W] to a table [places, V]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a row of the pair and a place take at most while they are learnt, in bytes."""

    row: int
    place: int

    @classmethod
    def of(cls, pair: int, box: int) -> "Sizes":
        """By the tokens of both vocabularies: so many numbers of 8 bytes for each of them, gradients among them."""
        return cls(8 * 4 * pair, 8 * (4 * pair + 6 * box))


class Piece(NamedTuple):
    """Some places that follow each other, and the rows of the text that tell of them."""

    rows: slice
    aligned: Aligned


def pieces(aligned: Aligned, sizes: Sizes, most: int = PIECE_BYTES) -> list[Piece]:
    """The places in order, as many at a time as take at most so many bytes; one at least."""
    first_row, behind_row = _rows_of_places(aligned)
    cuts = _cuts(first_row.tolist(), behind_row.tolist(), sizes, most)
    return [
        _piece(aligned, first, end, int(first_row[first:end].min()), int(behind_row[first:end].max()))
        for first, end in cuts
    ]


def in_pieces(project: Project, logits: Tensor, of_row: Sequence[Piece]) -> Tensor:
    """The table of the whole row; with its gradient, for which each piece is computed anew."""
    table: Tensor = _InPieces.apply(logits, project, of_row)  # type: ignore[no-untyped-call]
    return table


class _InPieces(torch.autograd.Function):
    """Keeps the logits alone. Gradients of a row that several pieces read are added up in float32 at least."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, project: Project, of_row: Sequence[Piece]) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.project, ctx.of_row = project, of_row
        return torch.cat([project(logits[piece.rows], piece.aligned) for piece in of_row])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors
        precise = torch.promote_types(logits.dtype, torch.float32)
        total = torch.zeros_like(logits, dtype=precise)
        of_pieces = torch.split(gradients[0], [piece.aligned.places for piece in ctx.of_row])
        for piece, gradient in zip(ctx.of_row, of_pieces, strict=True):
            rows = logits[piece.rows].to(precise).detach().requires_grad_()
            with torch.enable_grad():
                table = ctx.project(rows, piece.aligned)
            total[piece.rows] += torch.autograd.grad(table, rows, gradient)[0]
        return total.to(logits.dtype), None, None


def _rows_of_places(aligned: Aligned) -> tuple[Tensor, Tensor]:
    """The first row that tells of each place, and the one behind the last: [places] each."""
    first, last = aligned.deepest.long(), aligned.deepest.long()
    for places, rows in _readings(aligned):
        first = first.scatter_reduce(0, places.long(), rows.long(), "amin")
        last = last.scatter_reduce(0, places.long(), rows.long(), "amax")
    return first, last + 1


def _readings(aligned: Aligned) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of a place and a row that is read there."""
    ways, begun, told = aligned.open, aligned.begun, aligned.told
    yield ways.at, ways.row
    yield ways.at[ways.ways.steps[0]], ways.ways.steps[1]
    for sums, place in ((begun, begun.terms[0]), (told.sums, told.at[told.sums.terms[0]])):
        yield place, sums.terms[1]
        yield place[sums.ways.steps[0]], sums.ways.steps[1]


def _cuts(first_row: Sequence[int], behind_row: Sequence[int], sizes: Sizes, most: int) -> Iterator[tuple[int, int]]:
    start, low, high = 0, first_row[0], behind_row[0]
    for place, (first, behind) in enumerate(zip(first_row, behind_row, strict=True)):
        low, high = min(low, first), max(high, behind)
        if place > start and (high - low) * sizes.row + (place + 1 - start) * sizes.place > most:
            yield start, place
            start, low, high = place, first, behind
    yield start, len(first_row)


def _piece(aligned: Aligned, first: int, end: int, first_row: int, behind_row: int) -> Piece:
    part = replace(
        aligned,
        ids=aligned.ids[: aligned.first + behind_row],
        first=aligned.first + first_row,
        places=end - first,
        open=aligned.open.part(first, end).from_row(first_row),
        begun=aligned.begun.part(first, end).from_row(first_row),
        told=aligned.told.part(first, end).from_row(first_row),
        deepest=aligned.deepest[first:end] - first_row,
        lost=aligned.lost[first:end],
    )
    return Piece(slice(first_row, behind_row), part)
