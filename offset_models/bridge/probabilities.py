"""P(x): the probability that a pair's text goes on with the bytes x, from the rows at the nodes of x.

    P(x) = Σ over nodes n of x:  m(n) · Σ_{w begins with what n leaves of x} p(w | n)

m(n) is the probability of the node's own path, the product of its tokens' probabilities. Everything is float64 and
of all members of the pair at once: they share nodes, not numbers. Sums are over the places themselves: differences of
cumulative sums would lose the digits of rare bytes.
Source: docs/bridge.md; covers of a string as in Phan et al. and Hayase et al., arXiv 2410.09303 and 2506.14123.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.tree import ByteTree
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary
from deltaserve.server.decoding.protocols import Ids, OffsetRow

TINY: Final = 1e-300  # stands for a probability that float64 rounds to 0


@dataclass(frozen=True, slots=True)
class NodeRow:
    """The next token's probabilities at one node, for each member of the pair."""

    probabilities: Tensor  # [members, T] float64, in the order of the tokens' bytes
    ends: Tensor  # [members] float64: of all tokens that end an answer

    @property
    def closed(self) -> Tensor:
        """Pairs whose members say the same, as behind a closed gate, [members / 2] bool."""
        return (self.probabilities[::2] == self.probabilities[1::2]).all(-1)

    def without(self, closed: Tensor) -> "NodeRow":
        """The initial member in place of the other, where `closed` [members / 2] is true."""
        return NodeRow(_initial_where(closed, self.probabilities), _initial_where(closed, self.ends))

    def of(self, vocabulary: ByteVocabulary, token_id: int) -> Tensor:
        """Probability of one token, [members]."""
        return self.probabilities[:, vocabulary.place[token_id]]


Rows = Mapping[Path, NodeRow]


def _initial_where(closed: Tensor, members: Tensor) -> Tensor:
    """[members, …] with row 2j in place of row 2j + 1 where `closed` [j] is true."""
    changed = members.clone()
    pairs = closed.nonzero()[:, 0]
    changed[2 * pairs + 1] = members[2 * pairs]
    return changed


def node_row(rows: Sequence[OffsetRow], vocabulary: ByteVocabulary, ends: Ids) -> NodeRow:
    """From each pair's row of its own vocabulary at strength 1, members (o, u) of one after the other.

    Where a pair's gate is closed both of its members are the initial one.
    """
    return NodeRow(_members(rows, vocabulary.order.numpy()), _members(rows, ends).sum(-1))


def _members(rows: Sequence[OffsetRow], ids: Ids) -> Tensor:
    """Probabilities of some ids, [members, n]: p_o and p_u of each pair."""
    logs = [log for row in rows for base in [row.base(ids)] for log in (base, base + row.offset(ids))]
    return torch.from_numpy(np.exp(np.stack(logs)))


def path_mass(tree: ByteTree, rows: Rows, path: Path) -> Tensor:
    """m(path): the product of its tokens' probabilities, [members]."""
    mass = torch.ones_like(rows[()].ends)
    for depth, token_id in enumerate(path):
        mass = mass * rows[path[:depth]].of(tree.vocabulary, token_id)
    return mass


def begins_with(tree: ByteTree, rows: Rows, settled: Path, x: bytes, *, told: bool = False) -> Tensor:
    """P(x) behind the settled tokens, [members]; 1 for no bytes, 0 where the tokenizer cannot write x there.

    `rows` holds the row of every node of x. Raises KeyError for one that it lacks, unless only what the rows tell is
    wanted (`told`): then P(x) is at least that.
    """
    if not x:
        return torch.ones_like(rows[()].ends)
    total = torch.zeros_like(rows[()].ends)
    for node in tree.nodes(settled, x):
        if told and node.path not in rows:
            continue
        first, end = tree.vocabulary.interval(node.rest)
        total = total + path_mass(tree, rows, node.path) * rows[node.path].probabilities[:, first:end].sum(-1)
    return total


def ends_after(tree: ByteTree, rows: Rows, settled: Path, x: bytes) -> Tensor:
    """Probability that the pair's text goes on with x and ends there, [members]. Ends are events, not bytes."""
    total = torch.zeros_like(rows[()].ends)
    for path in tree.whole(settled, x):
        total = total + path_mass(tree, rows, path) * rows[path].ends
    return total


def log_offset(after: Tensor, before: Tensor) -> Tensor:
    """δ = log P_u(s)/P_u(t) − log P_o(s)/P_o(t), nats, from P(s) and P(t) [..., (o, u)].

    0 where neither member can write s: the black box answers for itself there.
    """
    conditional = after.clamp(min=TINY).log() - before.clamp(min=TINY).log()
    offset = conditional[..., 1] - conditional[..., 0]
    return offset.masked_fill((after == 0).all(-1), 0.0)
