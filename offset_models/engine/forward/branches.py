"""Several ways on behind one sequence, in one pass: a tree of tokens that see the sequence and what leads to them.

Their keys and values stand behind those of the sequence for this pass only, whatever their positions are: the next pass
writes over them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Branches:
    """Tokens of a tree, parents before children."""

    token_ids: tuple[int, ...]
    starts: tuple[int, ...]  # of each: how many tokens of the sequence lead to it
    parents: tuple[int, ...]  # of each: the place of the one before it in the tree; -1: the sequence itself
    wanted: tuple[int, ...]  # places whose rows are wanted, ascending

    @property
    def positions(self) -> list[int]:
        """Of each token, as if it stood in its sequence."""
        return [start + len(line) - 1 for start, line in zip(self.starts, self.lines, strict=True)]

    @property
    def lines(self) -> list[tuple[int, ...]]:
        """Of each token the places in the tree that lead to it, its own last."""
        lines: list[tuple[int, ...]] = []
        for place, parent in enumerate(self.parents):
            lines.append((*(lines[parent] if parent >= 0 else ()), place))
        return lines

    @property
    def leaves(self) -> list[int]:
        """Places that lead to no other."""
        return sorted(set(range(len(self.parents))).difference(self.parents))


@dataclass(slots=True)
class Growing:
    """Branches in the making: a token that several paths begin with is there once."""

    token_ids: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: dict[int, tuple[int, ...]] = field(default_factory=dict)  # places whose rows are wanted, with their names
    _known: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def add(self, start: int, tokens: Sequence[int], name: tuple[int, ...]) -> None:
        """A path of one token or more behind the first `start` tokens of the sequence, whose row is wanted."""
        place = -1
        for token_id in tokens:
            place = self._place(start, place, token_id)
        self.ends[place] = name

    def done(self) -> Branches:
        return Branches(tuple(self.token_ids), tuple(self.starts), tuple(self.parents), tuple(sorted(self.ends)))

    def _place(self, start: int, parent: int, token_id: int) -> int:
        key = (start, parent, token_id)
        if key not in self._known:
            self._known[key] = len(self.token_ids)
            self.token_ids.append(token_id)
            self.starts.append(start)
            self.parents.append(parent)
        return self._known[key]


def visible(branches: Branches, chain_start: int, chain_stop: int, device: torch.device) -> Tensor:
    """Which keys each new token sees, [chain + branches, chain_stop + branches] bool.

    New are the sequence's tokens chain_start … chain_stop−1 and then those of the tree; so are their keys.
    """
    n, chain = len(branches.token_ids), chain_stop - chain_start
    key = torch.arange(chain_stop + n, device=device)
    seen = torch.tensor([*range(chain_start + 1, chain_stop + 1), *branches.starts], device=device)
    see = key < seen[:, None]
    lines = branches.lines
    queries = torch.tensor([chain + q for q, line in enumerate(lines) for _ in line], device=device)
    keys = torch.tensor([chain_stop + k for line in lines for k in line], device=device)
    see[queries, keys] = True
    return see


def paths_to(branches: Branches) -> Iterator[tuple[int, list[int], list[int]]]:
    """The tree as paths from the sequence on, one for each leaf: start, places, and those whose rows it is to give."""
    told: set[int] = set()
    for leaf in branches.leaves:
        line = list(branches.lines[leaf])
        mine = [place for place in line if place in branches.wanted and place not in told]
        told.update(mine)
        yield branches.starts[leaf], line, mine
