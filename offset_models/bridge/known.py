"""Between which numbers P(x) lies, from the rows that are there.

Nodes are looked at in the order of how much they can add. What is too small to matter is not judged at all: whether the
tokenizer may write it costs more than to count all of it as possible.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np

from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.probabilities import Rows
from deltaserve.offset_models.bridge.tree import ByteTree
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary
from deltaserve.server.decoding.protocols import Floats, Ids


@dataclass(frozen=True, slots=True)
class Known:
    """P(x) lies between `least` and `most`, [members] each.

    All that goes through a node is at most the mass of that node: what begins with its path, and each way once.
    """

    least: Floats  # the sum at the nodes that have their rows
    open: Mapping[Path, Floats]  # the nodes right behind those that lack theirs, and their masses
    left: Floats | float = 0.0  # at most so much goes through what is left out

    @property
    def most(self) -> Floats:
        return sum(self.open.values(), self.least + self.left)


def following(vocabulary: ByteVocabulary, rest: bytes) -> frozenset[int] | None:
    """The bytes with which tokens that begin with the rest go on; None where it is empty, and all may come."""
    if not rest:
        return None
    first, end = vocabulary.interval(rest)
    return frozenset(word[len(rest)] for word in vocabulary.words[first:end] if len(word) > len(rest))


class Begun(NamedTuple):
    """An open node of t, or a path that spells t: what comes behind t goes on from one of these."""

    path: Path
    rest: bytes  # what it leaves of t
    mass: Floats  # [members]
    following: frozenset[int] | None  # bytes that tokens go on with behind the rest; None: it is empty


class _Node(NamedTuple):
    """A node that has a row, and what can go through it."""

    path: Path
    rest: bytes
    here: Floats  # [members] ends in its interval
    children: Sequence[int]  # tokens that go on within the rest
    masses: Floats  # [members, children]
    begun: bool


def known(tree: ByteTree, rows: Rows, settled: Path, begun: Sequence[Begun], text: bytes, slack: float = 0.0) -> Known:
    """Of P(t + text), not empty, behind the settled tokens; all that is begun has its row.

    What has at most the share `slack` of what is found is left out.
    """
    search = _Search(tree, rows, settled, slack, np.zeros_like(begun[0].mass))
    for each in begun:
        if each.following is None or text[0] in each.following:
            search.add(each.path, each.rest + text, each.mass, len(each.rest), begun=True)
    search.run()
    return Known(search.least, search.open, search.left)


@dataclass(slots=True)
class _Search:
    tree: ByteTree
    rows: Rows
    settled: Path
    slack: float
    least: Floats
    open: dict[Path, Floats] = field(default_factory=dict)
    left: Floats | float = 0.0
    _waiting: list[tuple[float, int, Floats, _Node | tuple[Path, bytes]]] = field(default_factory=list)
    _order: count = field(default_factory=count)  # type: ignore[type-arg]

    def add(self, path: Path, rest: bytes, mass: Floats, behind: int = 0, *, begun: bool = False) -> None:
        """A node and its mass; its children are longer than `behind` bytes."""
        if path not in self.rows:
            self._wait(mass, (path, rest))
            return
        vocabulary, probabilities = self.tree.vocabulary, self.rows[path].probabilities.numpy()
        first, end = vocabulary.interval(rest)
        here = mass * probabilities[:, first:end].sum(-1)
        children = list(vocabulary.prefixes(rest, behind))
        places: Ids = np.array([vocabulary.place[token_id] for token_id in children], np.int64)
        masses = mass[:, None] * probabilities[:, places]
        self._wait(here + masses.sum(-1), _Node(path, rest, here, children, masses, begun))

    def run(self) -> None:
        while self._waiting:
            _, _, most, node = heapq.heappop(self._waiting)
            if (most <= self.slack * self.least).all():
                self.left = self.left + most
            elif isinstance(node, _Node):
                self._told(node)
            elif self._may_come(*node):
                self.open[node[0]] = most

    def _told(self, node: _Node) -> None:
        if not (self._covers(node.path, node.rest) if node.begun else self._may_come(node.path, node.rest)):
            return
        self.least = self.least + node.here
        if not node.children:
            return
        small = (node.masses <= self.slack * self.least[:, None]).all(0)
        self.left = self.left + node.masses[:, small].sum(-1)
        for i in np.flatnonzero(~small):
            token_id = node.children[i]
            rest = node.rest[len(self.tree.vocabulary.spelling(token_id)) :]
            self.add((*node.path, token_id), rest, node.masses[:, i])

    def _wait(self, most: Floats, node: _Node | tuple[Path, bytes]) -> None:
        heapq.heappush(self._waiting, (-float(most.max()), next(self._order), most, node))

    def _covers(self, path: Path, rest: bytes) -> bool:
        return self.tree.covers(self.settled + path, rest)

    def _may_come(self, path: Path, rest: bytes) -> bool:
        return self.tree.follows(self.settled + path[:-1], path[-1], rest)
