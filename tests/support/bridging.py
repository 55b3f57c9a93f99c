"""The slow way to what a pair says about bytes: byte pair encoding of a few tokens, and all sequences of tokens."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deltaserve.offset_models.bridge.neighbours import Path, WrittenNeighbours
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.probabilities import NodeRow
from deltaserve.offset_models.bridge.tree import ByteTree
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary

END = 0  # the id that ends an answer; it is no text


@dataclass(frozen=True)
class TinyBPE:
    """Letters and merges of tokens, best first. Ids: the end, the letters, then what merges make."""

    letters: bytes
    merges: tuple[tuple[bytes, bytes], ...]

    @cached_property
    def words(self) -> list[bytes]:
        made = dict.fromkeys(left + right for left, right in self.merges)
        return [b"", *(bytes([letter]) for letter in self.letters), *made]

    @cached_property
    def vocabulary(self) -> ByteVocabulary:
        return ByteVocabulary(self.words)

    def encode(self, text: bytes) -> list[int]:
        """Merges the best pair, the leftmost of equals, until there is none; letters that it lacks are left out."""
        parts = [bytes([letter]) for letter in text if letter in self.letters]
        while len(parts) > 1:
            ranks = [self._rank(pair) for pair in itertools.pairwise(parts)]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == len(self.merges):
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return [self.words.index(part) for part in parts]

    def spell(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.words[i] for i in ids)

    def writes(self, ids: Sequence[int]) -> bool:
        """Whether the tokenizer itself would write these tokens."""
        return self.encode(self.spell(ids)) == list(ids)

    def tree(self) -> ByteTree:
        return ByteTree(self.vocabulary, WrittenNeighbours(self.words.__getitem__, self.encode))

    def _rank(self, pair: tuple[bytes, bytes]) -> int:
        return self.merges.index(pair) if pair in self.merges else len(self.merges)


def random_bpe(seed: int, letters: bytes = b"ab", size: int = 8) -> TinyBPE:
    """A tokenizer of `size` tokens, the end aside; merges are of tokens that there are."""
    chance = random.Random(seed)
    words, merges = [bytes([letter]) for letter in letters], []
    while len(words) < size:
        pair = chance.choice(words), chance.choice(words)
        if pair[0] + pair[1] not in words:
            merges.append(pair)
            words.append(pair[0] + pair[1])
    return TinyBPE(letters, tuple(merges))


class RandomPair:
    """Two members with random next-token probabilities behind every context; `careful`: they write as BPE does."""

    def __init__(self, bpe: TinyBPE, seed: int, *, careful: bool = False) -> None:
        self.bpe, self.seed, self.careful = bpe, seed, careful

    def row(self, context: Path) -> Tensor:
        """p(· | context), [2, V] float64."""
        generator = torch.Generator().manual_seed(hash((self.seed, context)) % 2**31)
        logits = 2.0 * torch.randn(2, len(self.bpe.words), generator=generator, dtype=torch.float64)
        if self.careful:
            refused = [i for i in range(1, len(self.bpe.words)) if not self.bpe.writes((*context, i))]
            logits[:, refused] = -torch.inf
        return torch.softmax(logits, -1)

    def rows(self, settled: Path) -> "LazyRows":
        return LazyRows(self, settled)

    def mass(self, settled: Path, path: Path) -> Tensor:
        """Probability of these tokens behind the settled ones, [2]."""
        mass = torch.ones(2, dtype=torch.float64)
        for depth, token_id in enumerate(path):
            mass = mass * self.row((*settled, *path[:depth]))[:, token_id]
        return mass


class LazyRows(dict[Path, NodeRow]):
    """Rows by path behind the settled tokens, made when asked for."""

    def __init__(self, pair: RandomPair, settled: Path) -> None:
        super().__init__()
        self._pair, self._settled = pair, settled

    def __missing__(self, path: Path) -> NodeRow:
        row = self._pair.row((*self._settled, *path))
        self[path] = NodeRow(row[:, self._pair.bpe.vocabulary.order], row[:, END])
        return self[path]


def covers(bpe: TinyBPE, x: bytes, path: Path = ()) -> Iterator[Path]:
    """Every sequence of tokens whose text begins with x, and would not without its last token."""
    for token_id, word in enumerate(bpe.words):
        if not word:
            continue
        if word.startswith(x):
            yield (*path, token_id)
        elif x.startswith(word):
            yield from covers(bpe, x[len(word) :], (*path, token_id))


def position(bpe: TinyBPE, settled: Path = ()) -> Position:
    return Position(bpe.tree(), bpe.encode, list(settled))


def complete(at: Position, pair: RandomPair, candidates: Iterable[bytes] = (), slack: float = 0.0) -> int:
    """Computes the rows that are missing, and those that are wanted for candidates; returns how many they were."""
    rows, paths = pair.rows(tuple(at.settled)), set(at.missing())
    computed = 0
    while paths or (paths := {path for text in candidates for path in at.wanted(text, at.told(text), slack)}):
        at.rows.update((path, rows[path]) for path in paths)
        computed, paths = computed + len(paths), set()
    return computed
