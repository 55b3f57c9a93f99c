"""Several ways on from one stream, as few passes as they fit into."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from deltaserve.offset_models.engine.forward.branches import Branches, Growing
from deltaserve.offset_models.engine.forward.prefix import common_prefix

AT_ONCE: Final = 64  # tokens of ways on that one pass may carry
Path = tuple[int, ...]


def fans(ids: Sequence[int], start: int, paths: Collection[Path], room: int) -> Iterator[tuple[list[Path], Branches]]:
    """Branches behind ids[:start] that give the rows of these paths, and the paths in the order of those rows.

    `room`: tokens that there is place for at a time, enough for each path. Where a path goes along the ids that are
    there it begins behind them; its last token always runs.
    """
    tree = Growing()
    for path in sorted(set(paths)):
        along = min(common_prefix(tuple(ids[start : start + len(path)]), path), len(path) - 1)
        if tree.ends and len(tree.token_ids) + len(path) - along > min(room, AT_ONCE):
            yield _named(tree)
            tree = Growing()
        tree.add(start + along, path[along:], path)
    if tree.ends:
        yield _named(tree)


def _named(tree: Growing) -> tuple[list[Path], Branches]:
    branches = tree.done()
    return [tree.ends[place] for place in branches.wanted], branches
