"""Checks a safetensors file by its header, before memory is allocated for any tensor.

Layout: u64 little-endian N, N bytes of JSON {name: {dtype, shape, data_offsets}}, then the data.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deltaserve.errors import BadCheckpoint

MAX_HEADER_BYTES: Final = 32 * 2**20
ITEM_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
# A float is infinite or NaN exactly when all bits of its exponent are set.
EXPONENT: Final[dict[str, tuple[type[np.unsignedinteger[Any]], int]]] = {
    "F8_E5M2": (np.uint8, 0x7C),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F32": (np.uint32, 0x7F80_0000),
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
}
F8_E4M3_NAN: Final = 0x7F  # this format has no infinities: one NaN pattern and its negative
MAX_DIMENSIONS: Final = 16
CHUNK_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class TensorEntry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int  # byte offsets in the file
    end: int


def read_header(path: Path) -> tuple[TensorEntry, ...]:
    """Tensors in data order, after every claim of the header was held against the file. Raises BadCheckpoint."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise BadCheckpoint(f"{path.name} is truncated: it has {size} bytes and announces a header of {length}.")
        if length > MAX_HEADER_BYTES:
            raise BadCheckpoint(
                f"{path.name} announces a header of {length} bytes; at most {MAX_HEADER_BYTES} are read."
            )
        raw = file.read(length)
    entries = sorted(_entries(path.name, raw, 8 + length), key=lambda entry: (entry.start, entry.end))
    _refuse_gaps(path.name, entries, 8 + length, size)
    return tuple(entries)


def refuse_non_finite(path: Path, entries: tuple[TensorEntry, ...]) -> None:
    """Raises BadCheckpoint naming the first tensor with a NaN or an infinity. Walks the file in chunks."""
    for entry in entries:
        if any(_non_finite(chunk, entry.dtype) for chunk in _chunks(path, entry)):
            raise BadCheckpoint(f"{path.name}: tensor {_shown(entry.name)} holds NaN or infinite weights.")


def all_zero(path: Path, entries: Iterable[TensorEntry]) -> bool:
    """Whether no weight of these tensors has a bit set."""
    return not any(chunk.any() for entry in entries for chunk in _chunks(path, entry))


def _entries(file_name: str, raw: bytes, data_start: int) -> Iterator[TensorEntry]:
    for name, about in _parse(file_name, raw).items():
        if name != "__metadata__":
            yield _entry(file_name, name, about, data_start)


def _parse(file_name: str, raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(
            f"{file_name} is not a safetensors file: its header is not a proper JSON object."
        ) from error
    if not isinstance(header, dict):
        raise BadCheckpoint(f"{file_name} is not a safetensors file: its header is not a JSON object.")
    return header


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("repeated key")
    return entries


def _entry(file_name: str, name: str, about: Any, data_start: int) -> TensorEntry:
    where = f"{file_name}: tensor {_shown(name)}"
    fields = about if isinstance(about, dict) else {}
    dtype = fields.get("dtype")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise BadCheckpoint(f"{where} has an unknown dtype.")
    shape, offsets = _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise BadCheckpoint(f"{where} has no proper shape and data_offsets.")
    start, end = offsets
    needed = prod(shape) * ITEM_BYTES[dtype]
    if needed != end - start:
        raise BadCheckpoint(f"{where} has a shape that needs {needed} bytes, and data_offsets of {end - start}.")
    return TensorEntry(name, dtype, shape, data_start + start, data_start + end)


def _counts(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return None
    return tuple(value) if all(type(item) is int and 0 <= item < 2**63 for item in value) else None


def _refuse_gaps(file_name: str, entries: list[TensorEntry], data_start: int, size: int) -> None:
    """The format allows neither holes nor overlaps, and nothing after the last tensor."""
    at = data_start
    for entry in entries:
        if entry.end > size:
            raise BadCheckpoint(f"{file_name} is truncated: tensor {_shown(entry.name)} ends past the end of the file.")
        if entry.start != at:
            raise BadCheckpoint(f"{file_name}: tensor {_shown(entry.name)} overlaps another one or leaves a hole.")
        at = entry.end
    if at != size:
        raise BadCheckpoint(f"{file_name} holds {size - at} bytes that belong to no tensor.")


def _chunks(path: Path, entry: TensorEntry) -> Iterator[NDArray[np.uint8]]:
    if entry.dtype not in EXPONENT and entry.dtype != "F8_E4M3":
        return
    for start in range(entry.start, entry.end, CHUNK_BYTES):
        count = min(CHUNK_BYTES, entry.end - start)
        yield np.fromfile(path, np.uint8, count, offset=start)


def _non_finite(chunk: NDArray[np.uint8], dtype: str) -> bool:
    if dtype == "F8_E4M3":
        return bool(((chunk & F8_E4M3_NAN) == F8_E4M3_NAN).any())
    unsigned, mask = EXPONENT[dtype]
    values = chunk.view(unsigned)
    return bool(((values & unsigned(mask)) == mask).any())


def _shown(name: str) -> str:
    return repr(name[:120])
