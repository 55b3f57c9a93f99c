"""One call and its attempts: to which server they go, which errors are worth another one, and when."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from deltaserve.errors import UpstreamBusy, UpstreamError, UpstreamUnreachable
from deltaserve.server.upstream.http.continuity import Continuity
from deltaserve.server.upstream.http.refusals import Restarting
from deltaserve.server.upstream.http.throttle import OverLimit

LONGEST_WAIT_S: Final = 2.0  # before another attempt; a longer Retry-After is handed on to the client
_ASK_ANEW: Final = "The connection to the upstream was lost: what was asked has to be asked anew."


class Call:
    """One call and its attempts, each to the server that the call was worded for."""

    def __init__(self, continuity: Continuity | None, *, bounded: bool) -> None:
        """`bounded`: a look needs one of the places of which this call has one."""
        self.refused = False  # by a busy upstream
        self._continuity, self._bounded = continuity, bounded
        self._epoch = continuity.epoch if continuity is not None else 0

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Waits while it is not known who answers, and again with the answer where a connection was lost meanwhile.

        Raises UpstreamError, also where what was answered is void.
        """
        await self._settled()
        try:
            yield
        except UpstreamError as error:
            self.heard(error)
            raise
        if self._bounded and self._continuity is not None and self._continuity.doubtful:
            raise Void(_ASK_ANEW)
        await self._settled()

    async def _settled(self) -> None:
        """Until the server is known to be the one that the call was worded for."""
        if self._continuity is None:
            return
        await self._continuity.settled()
        if self._continuity.epoch != self._epoch:
            raise Void(_ASK_ANEW)

    def heard(self, error: UpstreamError | None) -> None:
        """Some errors say that the connection was lost."""
        if self._continuity is not None and isinstance(error, UpstreamUnreachable | Restarting):
            self._continuity.lost()


class Void(UpstreamUnreachable):
    """An answer that may be another server's."""


def retry_wait(error: Exception) -> bool | float:
    """Unreachable and busy are worth another try; a slow upstream is not helped by a second copy of the work."""
    if isinstance(error, Void | OverLimit):
        return False  # whoever worded the request words it again; or it has waited long enough
    if isinstance(error, UpstreamBusy) and not isinstance(error, Restarting):
        return False  # its pause is waited for, and no attempt lost
    if isinstance(error, Restarting) and error.retry_after_s is not None:
        return max(error.retry_after_s, 0.05) if error.retry_after_s <= LONGEST_WAIT_S else False
    return isinstance(error, UpstreamUnreachable | UpstreamBusy)


def asks_for_a_pause(error: UpstreamBusy) -> bool:
    """A server that only loads its model is looked after by `Continuity`; some calls never reached it."""
    return not isinstance(error, OverLimit) and (error.retry_after_s is not None or not isinstance(error, Restarting))
