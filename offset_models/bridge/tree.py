"""The tokens by which a pair may go on with given bytes, as a tree: which rows tell how probable that is.

A path is a sequence of the pair's tokens behind what is settled. It is a *node* for the bytes x when it spells a proper
beginning of x and the tokenizer may cover the rest of x from there. Whether it may is judged as long as few tokens
begin with that rest; while many do, one of them is taken to fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from deltaserve.offset_models.bridge.neighbours import Neighbours, Path
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary

CROWD: Final = 64  # with more tokens than this that begin with the rest, one of them fits
_REMEMBERED: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Node:
    """A path, and what of the bytes it leaves: `rest` is empty where it spells them all."""

    path: Path
    rest: bytes


class ByteTree:
    """The nodes of any bytes, for one tokenizer. Safe to share between threads."""

    def __init__(self, vocabulary: ByteVocabulary, neighbours: Neighbours, crowd: int = CROWD) -> None:
        self.vocabulary = vocabulary
        self.neighbours = neighbours
        self._crowd = crowd
        self._covers = lru_cache(_REMEMBERED)(self._can_cover)
        self._children = lru_cache(_REMEMBERED)(self._open_children)
        self._follows = lru_cache(_REMEMBERED)(self._may_follow)

    def nodes(self, settled: Path, x: bytes) -> Iterator[Node]:
        """Every path that needs a row for P(x): the root first, parents before children; none where x cannot come.

        `settled`: the last tokens before the root are enough (`Neighbours.reach`).
        """
        if self._covers(self.neighbours.reach(settled), x):
            yield from self._below(settled, (), x)

    def covers(self, before: Path, rest: bytes) -> bool:
        """Whether the tokenizer may cover the rest behind these tokens."""
        return self._covers(self.neighbours.reach(before), rest)

    def covers_each(self, before: Path, rests: Sequence[bytes]) -> list[bool]:
        """Whether it may cover each of these."""
        tail = self.neighbours.reach(before)
        return [self._covers(tail, rest) for rest in rests]

    def follows(self, before: Path, token_id: int, left: bytes) -> bool:
        """Whether a token may come next and what it leaves may then be covered."""
        return self._follows(self.neighbours.reach(before), token_id, left)

    def follows_behind(self, tail: Path, token_id: int, left: bytes) -> bool:
        """The same behind the last tokens of a path (`Neighbours.reach`)."""
        return self._follows(tail, token_id, left)

    def whole(self, settled: Path, x: bytes) -> Iterator[Path]:
        """Every path that spells x and nothing more: where an answer that says x may end."""
        if not x:
            yield ()
        for node in self.nodes(settled, x):
            before = self.neighbours.reach(settled + node.path)
            for token_id in self.vocabulary.spelled(node.rest):
                if self.neighbours.may_follow(before, token_id):
                    yield (*node.path, token_id)

    def _below(self, settled: Path, path: Path, rest: bytes) -> Iterator[Node]:
        yield Node(path, rest)
        for token_id, left in self._children(self.neighbours.reach(settled + path), rest):
            yield from self._below(settled, (*path, token_id), left)

    def _open_children(self, before: Path, rest: bytes) -> tuple[tuple[int, bytes], ...]:
        """Tokens that may come next and leave something of the rest, which may then be covered."""
        children = []
        for token_id in self.vocabulary.prefixes(rest):
            left = rest[len(self.vocabulary.spelling(token_id)) :]
            if self._follows(before, token_id, left):
                children.append((token_id, left))
        return tuple(children)

    def _may_follow(self, before: Path, token_id: int, left: bytes) -> bool:
        if not self.neighbours.may_follow(before, token_id):
            return False
        return self._covers(self.neighbours.reach((*before, token_id)), left)

    def _can_cover(self, before: Path, rest: bytes) -> bool:
        """Whether some sequence of tokens may follow that begins with the rest."""
        first, end = self.vocabulary.interval(rest)
        if end - first > self._crowd:
            return True
        if any(self.neighbours.may_follow(before, token_id) for token_id in self.vocabulary.ids[first:end]):
            return True
        return bool(self._children(before, rest))
