"""Which upstream has a prompt's beginning in its prefix cache: the one that computed it last."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from deltaserve.server.upstream.pool.member import Member

_BLOCK: Final = 32  # tokens: caches hold whole blocks of about this size
_BLOCKS: Final = 64  # of one prompt that are looked at
_KNOWN: Final = 16_384  # blocks that are remembered, the oldest forgotten first


class Prefixes:
    """Hashes of prompts' beginnings, never the ids themselves."""

    def __init__(self) -> None:
        self._members: OrderedDict[int, Member] = OrderedDict()

    def holder(self, token_ids: Sequence[int]) -> Member | None:
        """Who computed the longest known beginning; None where even the first block is new."""
        found = None
        for block in _blocks(token_ids):
            if block not in self._members:
                break
            found = self._members[block]
        return found

    def computed(self, token_ids: Sequence[int], member: Member) -> None:
        for block in _blocks(token_ids):
            self._members[block] = member
            self._members.move_to_end(block)
        while len(self._members) > _KNOWN:
            self._members.popitem(last=False)


def _blocks(token_ids: Sequence[int]) -> Iterator[int]:
    """A hash for each whole block and all before it."""
    so_far = 0
    for end in range(_BLOCK, min(len(token_ids), _BLOCK * _BLOCKS) + 1, _BLOCK):
        so_far = hash((so_far, *token_ids[end - _BLOCK : end]))
        yield so_far
