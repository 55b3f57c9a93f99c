"""An aligned row as one array of numbers, to be kept on disk."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deltaserve.offset_models.training.bridging.aligned import Aligned, OpenWays, Told
from deltaserve.offset_models.training.bridging.sums import Sums, Ways

Numbers = NDArray[np.int32]
_PARTS: Final = 17


def numbers_of(aligned: Aligned) -> Numbers:
    """The lengths of the parts, then the parts."""
    parts = list(_parts(aligned))
    return np.concatenate([np.array([len(part) for part in parts], np.int32), *parts])


def aligned_from(numbers: Numbers) -> Aligned:
    """From what `numbers_of` gave."""
    bounds = np.cumsum([_PARTS, *numbers[:_PARTS]])
    ids, shape, at, row, steps, rest_lengths, rest_bytes, *more = (
        numbers[start:end] for start, end in pairwise(bounds)
    )
    first, places = map(int, shape)
    begun, (told_at, told_ids), told, (deepest, lost) = more[:3], more[3:5], more[5:8], more[8:]
    return Aligned(
        ids.tolist(),
        first,
        places,
        OpenWays(_tensor(at), _tensor(row), _ways(len(at), steps), _words(rest_lengths, rest_bytes)),
        _sums(places, begun),
        Told(_tensor(told_at), _tensor(told_ids), _sums(len(told_at), told)),
        _tensor(deepest),
        _tensor(lost).bool(),
    )


def _parts(aligned: Aligned) -> Iterator[Numbers]:
    ways, told = aligned.open, aligned.told
    yield np.array(aligned.ids, np.int32)
    yield np.array([aligned.first, aligned.places], np.int32)
    yield from map(_flat, (ways.at, ways.row, ways.ways.steps))
    yield np.array([len(rest) for rest in ways.rests], np.int32)
    yield np.frombuffer(b"".join(ways.rests), np.uint8).astype(np.int32)
    yield from _of_sums(aligned.begun)
    yield from map(_flat, (told.at, told.ids))
    yield from _of_sums(told.sums)
    yield from map(_flat, (aligned.deepest, aligned.lost))


def _of_sums(sums: Sums) -> Iterator[Numbers]:
    return map(_flat, (sums.ways.steps, sums.terms, sums.empty))


def _sums(count: int, parts: Sequence[Numbers]) -> Sums:
    steps, terms, empty = parts
    return Sums(count, _ways(len(terms) // 4, steps), _tensor(terms).reshape(4, -1), _tensor(empty))


def _ways(count: int, steps: Numbers) -> Ways:
    return Ways(count, _tensor(steps).reshape(3, -1))


def _words(lengths: Numbers, letters: Numbers) -> tuple[bytes, ...]:
    ends = np.cumsum(lengths)
    joined = letters.astype(np.uint8).tobytes()
    return tuple(joined[end - length : end] for length, end in zip(lengths, ends, strict=True))


def _flat(tensor: Tensor) -> Numbers:
    return tensor.flatten().to(torch.int32).numpy()


def _tensor(numbers: Numbers) -> Tensor:
    return torch.from_numpy(numbers.copy())
