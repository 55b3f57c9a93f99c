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
from deltaserve.server.decoding.protocols import Floats


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
    children: Sequence[tuple[int, bytes]]  # tokens that go on within the rest, and what each leaves of it
    masses: Floats  # [members, children]

    @property
    def most(self) -> Floats:
        most: Floats = self.here + self.masses.sum(-1)
        return most


def known(
    tree: ByteTree,
    rows: Rows,
    settled: Path,
    begun: Sequence[Begun],
    text: bytes,
    slack: float = 0.0,
    rough: float | None = None,
) -> Known:
    """Of P(t + text), not empty, behind the settled tokens; all that is begun has its row.

    What has at most the share `slack` of what is found is left out; `rough`: that of what goes on behind open nodes.
    """
    search = _Search(tree, rows, settled, slack if rough is None else rough, np.zeros_like(begun[0].mass))
    search.begin([each for each in begun if each.following is None or text[0] in each.following], text, slack)
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
    _waiting: list[tuple[float, int, Floats, Path, bytes]] = field(default_factory=list)
    _order: count = field(default_factory=count)  # type: ignore[type-arg]

    def begin(self, begun: Sequence[Begun], text: bytes, slack: float) -> None:
        """Open nodes first: with what they give, most of what goes on behind them can be seen to be too small."""
        nodes = [(node.most, node) for each in begun for node in [self._node(each, each.rest + text)]]
        found = []
        for most, node in sorted(nodes, key=lambda each: -float(each[0].max())):
            if (most <= slack * self.least).all():
                self.left = self.left + most
            elif self.tree.covers(self.settled + node.path, node.rest):
                self.least = self.least + node.here
                found.append(node)
        for node in found:
            self._go_on(node)

    def run(self) -> None:
        """Through all that goes on, the heaviest first."""
        while self._waiting:
            _, _, mass, path, rest = heapq.heappop(self._waiting)
            if (mass <= self.slack * self.least).all():
                self.left = self.left + mass
            elif not self.tree.follows(self.settled + path[:-1], path[-1], rest):
                continue
            elif path not in self.rows:
                self.open[path] = mass
            else:
                node = self._node(Begun(path, b"", mass, None), rest)
                self.least = self.least + node.here
                self._go_on(node)

    def _node(self, at: Begun, rest: bytes) -> _Node:
        """`rest`: what it leaves of the whole; its children are longer than what it leaves of t."""
        probabilities, plan = self.rows[at.path].probabilities.numpy(), self.tree.vocabulary.plan(rest, len(at.rest))
        here = at.mass * np.add.reduce(probabilities[:, plan.first : plan.end], axis=1)
        return _Node(at.path, rest, here, plan.children, at.mass[:, None] * probabilities[:, plan.places])

    def _go_on(self, node: _Node) -> None:
        small = (node.masses <= self.slack * self.least[:, None]).all(0)
        self.left = self.left + node.masses[:, small].sum(-1)
        for i in np.flatnonzero(~small).tolist():
            (token_id, rest), mass = node.children[i], node.masses[:, i]
            heapq.heappush(self._waiting, (-float(mass.max()), next(self._order), mass, (*node.path, token_id), rest))
