"""What the rows at the open nodes tell of P(t + x) for many x, all of them at once.

As `known` says it of one x, as long as no row behind the open nodes is there: a text of which they tell something is
known but for what goes on behind them, and one of which they tell nothing needs the rows of the tokens that begin it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from deltaserve.offset_models.bridge.known import Begun, Known
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.probabilities import Rows
from deltaserve.offset_models.bridge.stakes import Mask
from deltaserve.offset_models.bridge.tree import ByteTree
from deltaserve.server.decoding.protocols import Floats, Ids

ROUGH: Final = 1e6  # what goes on behind the open nodes may be so many times what is found


@dataclass(frozen=True, slots=True)
class _Part:
    """What one open node tells of the texts that it can be followed by."""

    path: Path
    at: Ids  # [k] places among the texts
    here: Floats  # [members, k] ends in a text's interval
    owner: Ids  # [c] the text that a shorter token belongs to, a place among the texts
    children: Sequence[tuple[int, bytes]]  # [c] such a token, and what it leaves of its text
    masses: Floats  # [members, c]


def known_at_once(
    tree: ByteTree, rows: Rows, settled: Path, begun: Sequence[Begun], texts: Mapping[int, bytes]
) -> dict[int, Known]:
    """Of the texts, not empty, with as much as `ROUGH` left out; without those that must be looked at alone.

    All that is begun has its row.
    """
    ids, words = list(texts), list(texts.values())
    parts = [_behind(tree, rows, settled, each, words) for each in begun]
    least = np.zeros((len(begun[0].mass), len(ids)))  # [members, n]
    left = np.zeros_like(least)
    for part in parts:
        least[:, part.at] += part.here
        np.add.at(left.T, part.owner, part.masses.T)
    some: Mask = np.any(least, axis=0)
    for part in parts:
        some[part.owner[(part.masses > ROUGH * least[:, part.owner]).any(0)]] = False
    told = {ids[at]: Known(least[:, at], {}, left[:, at]) for at in np.flatnonzero(some).tolist()}
    nothing = np.flatnonzero(~least.any(0)).tolist()
    return told | {ids[at]: known for at, known in _lacking(tree, rows, settled, parts, nothing).items()}


def _lacking(
    tree: ByteTree, rows: Rows, settled: Path, parts: Sequence[_Part], which: Sequence[int]
) -> dict[int, Known]:
    """Of texts of which the open nodes tell nothing: the tokens that begin them, where none has its row yet."""
    open_: dict[int, dict[Path, Floats]] = {at: {} for at in which}
    for part in parts:
        tail = tree.neighbours.reach(settled + part.path)
        for column, at in enumerate(part.owner.tolist()):
            token_id, rest = part.children[column]
            if at not in open_ or not part.masses[:, column].any() or not tree.follows_behind(tail, token_id, rest):
                continue
            path = (*part.path, token_id)
            if path in rows:
                del open_[at]
            else:
                open_[at][path] = part.masses[:, column]
    return {at: Known(np.zeros(len(parts[0].here)), paths) for at, paths in open_.items() if paths}


def _behind(tree: ByteTree, rows: Rows, settled: Path, node: Begun, texts: Sequence[bytes]) -> _Part:
    probabilities = rows[node.path].probabilities.numpy()
    may = [at for at, text in enumerate(texts) if node.following is None or text[0] in node.following]
    covered = tree.covers_each(settled + node.path, [node.rest + texts[at] for at in may])
    may = [at for at, covers in zip(may, covered, strict=True) if covers]
    rests = [node.rest + texts[at] for at in may]
    plans = [tree.vocabulary.plan(rest, len(node.rest)) for rest in rests]
    here = np.empty((len(node.mass), len(may)))
    for column, plan in enumerate(plans):
        np.add.reduce(probabilities[:, plan.first : plan.end], axis=1, out=here[:, column])
    at = np.array(may, np.int64)
    places = np.concatenate([plan.places for plan in plans]) if plans else at
    mass = node.mass[:, None]
    return _Part(
        path=node.path,
        at=at,
        here=here * mass,
        owner=np.repeat(at, [plan.places.size for plan in plans]),
        children=[child for plan in plans for child in plan.children],
        masses=probabilities[:, places] * mass,
    )
