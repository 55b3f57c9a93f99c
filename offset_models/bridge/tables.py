"""Where the black box's tokens lie in the pair's vocabulary: built once for two tokenizers, kept on disk."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.bridge.spelled import Spelled
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.files.safe_files import read_bounded, write_atomically

_FORM: Final = 1  # of the file; another number, another file
_LARGEST: Final = 64 * 2**20
_NAMED: Final = "bridge-"


@dataclass(frozen=True, slots=True)
class IntervalTables:
    """By id of the black box, all [V] int32. Ids that are no text have an empty interval and no parent."""

    first: Tensor  # place of the pair's first token that begins with the id's bytes, in the order of bytes
    end: Tensor  # place behind the last one
    parent: Tensor  # the longest other id whose bytes begin this one's; -1: none. Of equals, the one before


def interval_tables(box: Spelled, pair: Spelled, folder: Path | None = None) -> IntervalTables:
    """The tables of two tokenizers, from `folder` where they have been built before; a damaged file is built anew."""
    if folder is None:
        return built(box.vocabulary, pair.vocabulary)
    path = folder / f"{_NAMED}{digest_of([_FORM, box.identity, pair.identity])[:32]}.safetensors"
    if (known := _read(path, len(box.vocabulary.spellings))) is not None:
        return known
    tables = built(box.vocabulary, pair.vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(asdict(tables)))
    return tables


def table_files(folder: Path) -> list[Path]:
    """Those that a folder keeps, for whichever tokenizers."""
    return sorted(folder.glob(f"{_NAMED}*.safetensors"))


def built(box: ByteVocabulary, pair: ByteVocabulary) -> IntervalTables:
    """The tables, from the bytes of both."""
    size = len(box.spellings)
    first, end = torch.zeros(size, dtype=torch.int32), torch.zeros(size, dtype=torch.int32)
    places = [pair.interval(word) for word in box.words]
    ids = box.order
    first[ids] = torch.tensor([place for place, _ in places], dtype=torch.int32)
    end[ids] = torch.tensor([place for _, place in places], dtype=torch.int32)
    return IntervalTables(first, end, _parents(box))


def _parents(box: ByteVocabulary) -> Tensor:
    """In the order of bytes a token comes right behind all that begin it, and what else these begin."""
    parents = torch.full((len(box.spellings),), -1, dtype=torch.int32)
    open_ids: list[int] = []
    for word, token_id in zip(box.words, box.ids, strict=True):
        while open_ids and not word.startswith(box.spelling(open_ids[-1])):
            open_ids.pop()
        if open_ids:
            parents[token_id] = open_ids[-1]
        open_ids.append(token_id)
    return parents


def _read(path: Path, size: int) -> IntervalTables | None:
    """None where there is no such file, or not a whole one."""
    try:
        tensors = load(read_bounded(path, _LARGEST))
        tables = IntervalTables(**tensors)
    except (BadCheckpoint, SafetensorError, TypeError):
        return None
    fits = all(t.shape == (size,) and t.dtype == torch.int32 for t in tensors.values())
    return tables if fits else None
