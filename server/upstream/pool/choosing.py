"""Which upstream takes a call: the one that has the prefix in its cache, unless it is away, busy or more loaded."""

from collections.abc import Collection, Sequence
from typing import Final

from deltaserve.server.upstream.pool.affinity import Prefixes
from deltaserve.server.upstream.pool.member import Member

_SOON_S: Final = 0.25  # a wait that is shorter than what another server takes to compute a prefix
_SLACK: Final = 2  # answers that a server may have more than another and still get one whose prefix it has


class Choosing:
    """Chooses among the members of one pool."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._prefixes = Prefixes()
        self._turn = 0  # of equals

    def choose(
        self, token_ids: Sequence[int], holder: Member | None = None, without: Collection[Member] = ()
    ) -> Member | None:
        """The member for a call of the answer whose last call went to `holder`; None where none may be asked."""
        asked = [member for member in self._members if member not in without and member.usable]
        if len(asked) < 2:
            return asked[0] if asked else None
        least = min(member.wait_s() for member in asked)
        soon = [member for member in asked if member.wait_s() <= least + _SOON_S]
        if holder in soon:
            return holder
        member = self._for_new(token_ids, soon)
        self._prefixes.computed(token_ids, member)
        return member

    def _for_new(self, token_ids: Sequence[int], members: Sequence[Member]) -> Member:
        """Least loaded; one that knows the beginning of the prompt may be a little more."""
        self._turn += 1
        by_turn = [members[(self._turn + at) % len(members)] for at in range(len(members))]
        least = min(by_turn, key=lambda member: (member.box.throttle.queued, member.load))
        known = self._prefixes.holder(token_ids)
        if known in members and known is not None and not known.box.throttle.queued:
            return known if known.answers <= least.answers + _SLACK else least
        return least
