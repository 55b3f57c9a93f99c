"""One answer's place in the pair's tokens: what is settled, what is not, and the rows that tell of what comes next.

A token is settled once every way to write the emitted bytes goes through it. Dividing both probabilities of an offset
by a settled token's changes nothing, so it becomes part of the context, and its row is dropped.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from torch import Tensor

from deltaserve.errors import NoOffset
from deltaserve.offset_models.bridge.at_once import known_at_once
from deltaserve.offset_models.bridge.known import Begun, Known, following, known
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.probabilities import NodeRow, Rows, begins_with, ends_after, path_mass
from deltaserve.offset_models.bridge.row import OpenNode, Reading
from deltaserve.offset_models.bridge.tree import ByteTree, Node

UNWRITABLE: Final = "The pair's tokenizer cannot write what the black box wrote: the offset cannot be computed here."
MANY_WAYS: Final = "The black box wrote bytes that are no text, in more ways than the offset can be computed for."
_MOST_OPEN: Final = 128  # text has a few; bytes that are no UTF-8 have ever more ways, and each costs a row
_LOOK_BACK: Final = 8  # tokens: more than a character has bytes


@dataclass(slots=True)
class Position:
    """`rows` are by path behind `settled`; whoever computes those that are missing or wanted puts them there."""

    tree: ByteTree
    encode: Callable[[bytes], Sequence[int] | None]  # what the pair's tokenizer writes for bytes inside a text
    settled: list[int]
    unsettled: bytes = b""
    rows: dict[Path, NodeRow] = field(default_factory=dict)
    begun: int = 0  # settled tokens of a prompt that no answer's token is judged with
    breaks: int = 0  # how often the tokenizer would not have written what came
    reading: Reading | None = field(init=False, default=None)  # of the open nodes; whoever reads them puts it there
    _known_open: list[Node] | None = field(init=False, default=None)  # while nothing is emitted or settled
    _known_begun: list[Begun] | None = field(init=False, default=None)
    _known_heard: tuple[int, Rows] | None = field(init=False, default=None)  # of how many rows

    def __post_init__(self) -> None:
        self._settle()

    def go_on(self, text: bytes) -> None:
        """These bytes were emitted. Raises NoOffset where the pair cannot write them, or too many ways stay open."""
        self.unsettled += text
        self._settle()
        if len(self.ways()) > _MOST_OPEN:
            raise NoOffset(MANY_WAYS)

    def missing(self) -> list[Path]:
        """The open nodes that lack their rows, the longest first."""
        paths = {node.path for node in self.ways()}.difference(self.rows)
        return sorted(paths, key=lambda path: (-len(path), path))

    def told(self, text: bytes, slack: float = 0.0, rough: float | None = None) -> Known:
        """What the rows that are there, those of all open nodes among them, tell of P(t + text).

        What goes through the tree and has at most the share `slack` of what is found is left out; `rough`: that of what
        goes on behind the open nodes.
        """
        rows = self._heard()
        told = known(self.tree, rows, self._tail, self._begun(), text, slack, rough)
        if told.open or told.least.any() or (forced := self.forced(self.unsettled + text)) is None:
            return told
        lacking = next((forced[:depth] for depth in range(len(forced)) if forced[:depth] not in rows), None)
        mass = path_mass(self.tree, rows, forced if lacking is None else lacking).numpy()
        return Known(mass, {}) if lacking is None else Known(np.zeros_like(mass), {lacking: mass})

    def told_at_once(self, texts: Mapping[int, bytes]) -> dict[int, Known]:
        """The same of many texts, roughly; without those that must be looked at alone."""
        return known_at_once(self.tree, self._heard(), self._tail, self._begun(), texts)

    def wanted(self, text: bytes, told: Known, slack: float = 0.0) -> set[Path]:
        """Paths whose rows are to be computed next for P(t + text); none where it is known.

        Nodes are left out whose whole mass is at most that share of what is known of it: each moves its logarithm by
        at most so many nats. Where nothing is known of it yet, the tokens that the bytes are by themselves come first.
        """
        wanted = {path for path, mass in told.open.items() if (mass > slack * told.least).any()}
        if not wanted or told.least.all():
            return wanted
        line = self.encode(self.unsettled + text) or ()
        begun = next((depth for depth in range(len(line)) if tuple(line[:depth]) in wanted), None)
        return wanted if begun is None else {tuple(line[:depth]) for depth in range(begun, len(line))}

    def _heard(self) -> Rows:
        """The rows as they count at this place: where the gate of an open way is closed, it is closed behind it too.

        What comes behind is what was not said: there a pair has learnt nothing, and its members differ as they like.
        """
        if self._known_heard is None or self._known_heard[0] != len(self.rows):
            ways = {node.path for node in self.ways()}
            closed = {path: self.rows[path].closed for path in ways if path in self.rows}
            heard = {path: self._as_heard(path, ways, closed) for path in self.rows}
            self._known_heard = len(self.rows), heard
        return self._known_heard[1]

    def _as_heard(self, path: Path, ways: Collection[Path], closed: Mapping[Path, Tensor]) -> NodeRow:
        row = self.rows[path]
        before = next((path[:depth] for depth in range(len(path) - 1, -1, -1) if path[:depth] in closed), None)
        if path in ways or before is None or not closed[before].any():
            return row
        return row.without(closed[before])

    def _begun(self) -> list[Begun]:
        """The open nodes, all of which have their rows."""
        if self._known_begun is None:
            self._known_begun = [
                Begun(
                    node.path,
                    node.rest,
                    path_mass(self.tree, self.rows, node.path).numpy(),
                    following(self.tree.vocabulary, node.rest),
                )
                for node in self.ways()
            ]
        return self._known_begun

    def open_nodes(self) -> list[OpenNode]:
        """With their rows. Raises KeyError where one is missing."""
        return [
            OpenNode(path_mass(self.tree, self.rows, node.path), node.rest, self.rows[node.path])
            for node in self.ways()
        ]

    def reach(self, text: bytes = b"") -> Tensor:
        """P(t + text) as far as rows tell it, [members].

        Of bytes that the tree cannot cover it is the probability of the tokens that they are by themselves.
        """
        forced = self.forced(self.unsettled + text)
        if forced is not None:
            return path_mass(self.tree, self._heard(), forced)
        return begins_with(self.tree, self._heard(), self._tail, self.unsettled + text, told=True)

    def ending(self) -> Tensor:
        """Probability that the answer ends here, [members]; over `reach()` it is that of the end."""
        return ends_after(self.tree, self.rows, self._tail, self.unsettled)

    @property
    def _tail(self) -> Path:
        """What the tree needs to know of the settled tokens."""
        return self.tree.neighbours.reach(tuple(self.settled[self.begun :][-_LOOK_BACK:]))

    def forced(self, text: bytes) -> Path | None:
        """The tokens of bytes that the tokenizer writes otherwise behind what is settled; None where it does not."""
        if next(iter(self.nodes(text)), None) is not None:
            return None
        written = self.encode(text)
        if written is None or b"".join(map(self.tree.vocabulary.spelling, written)) != text:
            return None
        return tuple(written)

    def nodes(self, text: bytes) -> Iterable[Node]:
        return self.tree.nodes(self._tail, text)

    def ways(self) -> list[Node]:
        """The nodes of t, and the paths that spell it."""
        if self._known_open is None:
            nodes = list(self.nodes(self.unsettled)) if self.unsettled else []
            whole = self.tree.whole(self._tail, self.unsettled)
            self._known_open = nodes + [Node(path, b"") for path in whole]
        return self._known_open

    def _changed(self) -> None:
        self._known_open = self._known_begun = self._known_heard = self.reading = None

    def _settle(self) -> None:
        self._changed()
        if not self.ways():
            self._break()
        while (token_id := self._certain()) is not None:
            self.settled.append(token_id)
            self.unsettled = self.unsettled[len(self.tree.vocabulary.spelling(token_id)) :]
            self.rows = {path[1:]: row for path, row in self.rows.items() if path[:1] == (token_id,)}
            self._changed()
        self.shed()

    def shed(self) -> None:
        """Drops what only candidates needed."""
        self.reading = None
        still = {node.path for node in self.ways()}
        self.rows = {path: row for path, row in self.rows.items() if path in still}
        self._known_heard = None

    def _certain(self) -> int | None:
        """The first token of every way to go on; None while there are several, or none yet."""
        first, end = self.tree.vocabulary.interval(self.unsettled)
        if end > first:
            return None  # a longer token may come instead
        begun = {node.path[0] for node in self.ways() if node.path}
        return begun.pop() if len(begun) == 1 else None

    def _break(self) -> None:
        """The bytes came in a way that the tokenizer would not write: it goes on behind how it writes them itself."""
        written = self.forced(self.unsettled)
        if written is None:
            raise NoOffset(UNWRITABLE)
        self.settled.extend(written)
        self.unsettled, self.rows = b"", {}
        self.breaks += 1
        self._changed()
