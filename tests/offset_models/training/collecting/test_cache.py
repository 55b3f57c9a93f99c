"""Shards on disk: what is written is read, little is lost, and a broken file is named."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from deltaserve.errors import CorruptState
from deltaserve.offset_models.training.collecting.cache import (
    SHARD,
    AlignedCache,
    AnswerCache,
    TopKCache,
    is_cache,
    is_shard,
)
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK


def top(length: int, k: int = 3) -> TopK:
    ids = np.arange(length * k, dtype=np.int64).reshape(length, k)
    return TopK(ids, np.log(np.tile(np.array([0.5, 0.25, 0.125], np.float32), (length, 1))))


def test_a_full_shard_is_written_at_once(tmp_path: Path) -> None:
    cache = TopKCache(tmp_path, "box", 3)
    samples = [Sample((1,), (i,)) for i in range(SHARD + 1)]
    for sample in samples:
        cache.put(sample, top(1))
    again = TopKCache(tmp_path, "box", 3)
    assert [again.get(sample) is not None for sample in samples] == [True] * SHARD + [False]


def test_columns_hold_the_tail_mass(tmp_path: Path) -> None:
    cache = TopKCache(tmp_path, "box", 3)
    cache.put(Sample((1,), (2, 3)), top(2))
    cache.flush()
    (shard,) = (tmp_path / "box-k3").iterdir()
    columns = load_file(shard)
    assert {name: column.shape for name, column in columns.items()} == {
        "digests": (1, 32),
        "lengths": (1,),
        "ids": (2, 3),
        "logprobs": (2, 3),
        "tail_mass": (2,),
    }
    np.testing.assert_allclose(columns["tail_mass"], 0.125, rtol=1e-6)


def test_a_repeated_entry_has_no_mass_of_its_own() -> None:
    short = TopK(np.array([[4, 7, 7]]), np.log(np.array([[0.5, 0.25, 0.25]], np.float32)))
    np.testing.assert_allclose(short.tail_mass, [0.25])


def test_answers_are_kept_by_prompt_and_length(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, "a/b", 8)
    cache.put((1, 2), (3, 4, 5))
    cache.put((2,), (6,))
    cache.flush()
    again = AnswerCache(tmp_path, "a/b", 8)
    assert (again.get((1, 2)), again.get([2]), again.get((9,))) == ((3, 4, 5), (6,), None)
    assert AnswerCache(tmp_path, "a/b", 9).get((2,)) is None


def test_a_torn_shard_is_named_and_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    cache = TopKCache(tmp_path, "box", 3)
    cache.put(Sample((1,), (2,)), top(1))
    cache.flush()
    (shard,) = (tmp_path / "box-k3").iterdir()
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(CorruptState, match=shard.name):
        TopKCache(tmp_path, "box", 3)


def test_aligned_rows_are_kept_where_a_purge_finds_them(tmp_path: Path) -> None:
    cache = AlignedCache(tmp_path, "0123456789abcdef" * 4)
    rows = {bytes([i]) * 32: np.arange(i, dtype=np.int32) for i in range(1, 4)}
    for key, numbers in rows.items():
        cache.put(key, numbers)
    cache.flush()
    again = AlignedCache(tmp_path, "0123456789abcdef" * 4)
    kept = [again.get(key) for key in rows]
    assert [None if row is None else row.tolist() for row in kept] == [row.tolist() for row in rows.values()]
    assert AlignedCache(tmp_path, "f" * 64).get(next(iter(rows))) is None  # of other tokenizers
    (folder,) = tmp_path.iterdir()
    assert is_cache(folder)
    assert all(map(is_shard, folder.iterdir()))


def test_a_damaged_shard_of_aligned_rows_is_as_good_as_none(tmp_path: Path) -> None:
    cache = AlignedCache(tmp_path, "0" * 64)
    cache.put(b"a" * 32, np.arange(3, dtype=np.int32))
    cache.flush()
    (shard,) = next(tmp_path.iterdir()).iterdir()
    shard.write_bytes(shard.read_bytes()[:-4])
    again = AlignedCache(tmp_path, "0" * 64)
    assert again.get(b"a" * 32) is None
    again.put(b"a" * 32, np.arange(4, dtype=np.int32))
    again.flush()
    assert AlignedCache(tmp_path, "0" * 64).get(b"a" * 32) is not None
