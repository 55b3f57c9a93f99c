"""Drafts that are handed out when the answer's own count says that nothing of it was left out.

For black boxes that may leave a position out of their answer without any sign of it but that count, at the end.
"""

from collections import deque

from deltaserve.errors import MalformedTopK, UpstreamError
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.call_draft import HIDDEN
from deltaserve.server.upstream.dialects.text_box import TextBox, TextDraft
from deltaserve.server.upstream.http.transport import EventStream
from deltaserve.server.upstream.text.lists import Reading


class CountedBox(TextBox):
    """Of such an answer the last token's list may be lost, too: where that was seen, one token more is asked for."""

    spare_tokens = 0


class CountedDraft(TextDraft):
    """One call's proposals, all at once; HIDDEN alone where one may be missing."""

    def __init__(
        self,
        box: "CountedBox",
        events: EventStream,
        prefix: list[int],
        temperature: float,
        max_tokens: int,
        *,
        recover: bool = True,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(
            box, events, prefix, temperature, max_tokens + box.spare_tokens, recover=recover, reading=reading
        )
        self._counted_box, self._wanted = box, max_tokens

    _stopped = False  # what follows was drawn after a token that we cannot name
    _hidden = False

    @property
    def _undecided(self) -> bool:
        return not self._ended

    async def ended_at_once(self) -> bool:
        """Whether the answer ended without a token that is shown."""
        try:
            async for _ in self:
                return False
        except MalformedTopK:
            pass
        return self._ledger.finish == "stop" and not self._ledger.positions

    def _take(self, proposal: Proposal) -> None:
        self._ledger.positions += 1
        self._left -= 1
        self._hidden = self._hidden or proposal is HIDDEN
        if not self._stopped:
            self._ready.append(proposal)
        self._stopped = self._stopped or proposal.token_id is None

    def _end(self) -> None:
        super()._end()
        if self._ledger.loose_text:
            self._counted_box.spare_tokens = 1
        if self._error is None and self._ledger.denies_its_text():
            self._fail(MalformedTopK("The upstream counts fewer tokens than it showed."))
        if self._error is None and (self._hidden or self._ledger.more_than_its_end_is_hidden()):
            self._ready = deque([HIDDEN])
        while len(self._ready) > self._wanted:
            self._ready.pop()

    def _fail(self, error: UpstreamError) -> None:
        super()._fail(error)
        self._ready.clear()
