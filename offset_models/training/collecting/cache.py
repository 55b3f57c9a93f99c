"""The black box's lists and answers on disk: columnar shards keyed by a digest, written while they are fetched.

No text is held, but the ids in it can be turned into some: `deltaserve collect --purge` deletes these folders.
"""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from deltaserve.errors import CorruptState
from deltaserve.offset_models.training.rows.row import digest_of_ids
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK

SHARD: Final = 32  # rows written at a time: what a kill may lose
LONGEST_UNSAVED_S: Final = 5.0  # a slow black box gives fewer rows; a kill loses no more than this time's either
PARTIAL: Final = ".partial"
_SHARD: Final = re.compile(r"\d+\.(safetensors|partial)")
_CACHE: Final = re.compile(r"-(k|answers)\d+$|^aligned-[0-9a-f]{32}$")
T = TypeVar("T")


class ShardedCache(ABC, Generic[T]):
    """Rows by digest. A shard is written beside and renamed, so that a kill leaves a whole one or none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder  # made with the first shard
        self._rows: dict[bytes, T] = {}
        self._unsaved: dict[bytes, T] = {}
        self._saved_at = time.monotonic()
        shards = sorted(self._folder.glob("*.safetensors"))
        self._next = 1 + max((int(shard.stem) for shard in shards if shard.stem.isdecimal()), default=-1)
        for shard in shards:
            self._rows.update(self._read(shard))

    def __len__(self) -> int:
        return len(self._rows)

    def flush(self) -> None:
        """Write what is not on disk yet, as one more shard."""
        self._saved_at = time.monotonic()
        if not self._unsaved:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._next:06d}.safetensors"
        digests = np.frombuffer(b"".join(self._unsaved), np.uint8).reshape(-1, 32)
        save_file({"digests": digests, **self._pack(list(self._unsaved.values()))}, path.with_suffix(PARTIAL))
        path.with_suffix(PARTIAL).replace(path)
        self._next += 1
        self._unsaved = {}

    def _get(self, digest: bytes) -> T | None:
        return self._rows.get(digest)

    def _put(self, digest: bytes, row: T) -> None:
        self._rows[digest] = self._unsaved[digest] = row
        if len(self._unsaved) >= SHARD or time.monotonic() - self._saved_at > LONGEST_UNSAVED_S:
            self.flush()

    def _read(self, path: Path) -> dict[bytes, T]:
        try:
            columns = load_file(path)
            digests = [row.tobytes() for row in columns["digests"]]
            return dict(zip(digests, self._unpack(columns), strict=True))
        except (SafetensorError, KeyError, ValueError, IndexError) as error:
            raise CorruptState(f"{path} is not a whole shard: delete that file, and collect its rows again.") from error

    @abstractmethod
    def _pack(self, rows: Sequence[T]) -> dict[str, NDArray[Any]]:
        """Columns of a shard."""

    @abstractmethod
    def _unpack(self, columns: Mapping[str, NDArray[Any]]) -> list[T]:
        """Rows of a shard."""


class TopKCache(ShardedCache[TopK]):
    """Top-k by sample, of one model at one k: `lengths` [rows], `ids`, `logprobs` [positions, k], `tail_mass`."""

    def __init__(self, folder: Path, model: str, k: int) -> None:
        super().__init__(folder / f"{_file_name(model)}-k{k}")

    def get(self, sample: Sample) -> TopK | None:
        return self._get(sample.digest)

    def put(self, sample: Sample, top: TopK) -> None:
        self._put(sample.digest, top)

    def _pack(self, rows: Sequence[TopK]) -> dict[str, NDArray[Any]]:
        return {
            "lengths": np.array([len(top.ids) for top in rows], np.int32),
            "ids": np.concatenate([top.ids for top in rows]).astype(np.int32),
            "logprobs": np.concatenate([top.logprobs for top in rows]),
            "tail_mass": np.concatenate([top.tail_mass for top in rows]).astype(np.float32),
        }

    def _unpack(self, columns: Mapping[str, NDArray[Any]]) -> list[TopK]:
        stops = np.cumsum(columns["lengths"])[:-1]
        ids, logprobs = np.split(columns["ids"].astype(np.int64), stops), np.split(columns["logprobs"], stops)
        return [TopK(i, p) for i, p in zip(ids, logprobs, strict=True)]


class AnswerCache(ShardedCache[tuple[int, ...]]):
    """The black box's own greedy answers as ids, by prompt and by how long they could get; of one model."""

    def __init__(self, folder: Path, model: str, max_tokens: int) -> None:
        super().__init__(folder / f"{_file_name(model)}-answers{max_tokens}")

    def get(self, prompt_ids: Sequence[int]) -> tuple[int, ...] | None:
        return self._get(digest_of_ids(prompt_ids))

    def put(self, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> None:
        self._put(digest_of_ids(prompt_ids), tuple(answer_ids))

    def _pack(self, rows: Sequence[tuple[int, ...]]) -> dict[str, NDArray[Any]]:
        ids = [token for row in rows for token in row]
        return {"lengths": np.array([len(row) for row in rows], np.int32), "ids": np.array(ids, np.int32)}

    def _unpack(self, columns: Mapping[str, NDArray[Any]]) -> list[tuple[int, ...]]:
        parts = np.split(columns["ids"], np.cumsum(columns["lengths"])[:-1])
        return [tuple(part.tolist()) for part in parts]


class AlignedCache(ShardedCache[NDArray[np.int32]]):
    """Rows as a pair of another tokenizer reads them, as arrays of numbers, by key; of two tokenizers."""

    def __init__(self, folder: Path, tokenizers: str) -> None:
        """`tokenizers`: digest (hex) of both."""
        super().__init__(folder / f"aligned-{tokenizers[:32]}")

    def get(self, key: bytes) -> NDArray[np.int32] | None:
        return self._get(key)

    def put(self, key: bytes, numbers: NDArray[np.int32]) -> None:
        self._put(key, numbers)

    def _read(self, path: Path) -> dict[bytes, NDArray[np.int32]]:
        """A damaged shard is as good as none: its rows are aligned anew, and kept in another one."""
        try:
            return super()._read(path)
        except CorruptState:
            return {}

    def _pack(self, rows: Sequence[NDArray[np.int32]]) -> dict[str, NDArray[Any]]:
        return {"lengths": np.array([len(row) for row in rows], np.int32), "numbers": np.concatenate(rows)}

    def _unpack(self, columns: Mapping[str, NDArray[Any]]) -> list[NDArray[np.int32]]:
        return np.split(columns["numbers"], np.cumsum(columns["lengths"])[:-1])


def is_cache(folder: Path) -> bool:
    """Whether a folder is one of these caches, by its name."""
    return folder.is_dir() and not folder.is_symlink() and _CACHE.search(folder.name) is not None


def is_shard(path: Path) -> bool:
    """Whether a file in such a folder is one of its shards, or half of one."""
    return path.is_file() and _SHARD.fullmatch(path.name) is not None


def _file_name(model: str) -> str:
    return model.replace("/", "--")
