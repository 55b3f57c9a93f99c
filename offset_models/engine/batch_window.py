"""How long a batch waits for other streams: a forward costs about as much for one row as for eight.

Rows are computed ahead, as soon as a token is known, and asked for when the black box has drawn the next one: in
between there is time. Half of it is used for waiting, less what the forward takes; none once somebody waits for a row.
"""

import time

from deltaserve.offset_models.engine.streams import Stream

_FORGET = 0.9  # weight that earlier times keep with each new one
_LONGEST_PAUSE_S = 1.0  # between two feeds of a stream; beyond it the stream was held up by something else


class Company:
    """The engine thread's view of the streams' rhythm."""

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._between_s: float | None = None  # two feeds of one stream, running mean
        self._forward_s = 0.0  # a batch, running mean
        self._since = 0.0  # when the first stream of the next batch was fed
        self._hurried = False

    def fed(self, stream: Stream, *, first: bool) -> None:
        """New ids came; `first`: nothing else is to be computed yet."""
        now = time.perf_counter()
        if first:
            self._since = now
        if stream.fed_at is not None and now - stream.fed_at < _LONGEST_PAUSE_S:
            between = now - stream.fed_at
            known = self._between_s
            self._between_s = between if known is None else _FORGET * known + (1.0 - _FORGET) * between
        stream.fed_at = now

    def hurry(self, *, urgent: bool) -> None:
        """Somebody waits for a row; `urgent`: one of the next batch."""
        self._hurried = self._hurried or urgent

    def ran(self, seconds: float) -> None:
        """A batch was computed."""
        self._forward_s = _FORGET * self._forward_s + (1.0 - _FORGET) * seconds
        self._since = time.perf_counter()
        self._hurried = False

    def worth_waiting_s(self) -> float:
        """Seconds that the next batch may still wait; 0 or less: it should run."""
        if self._hurried:
            return 0.0
        spare = 0.0 if self._between_s is None else 0.5 * self._between_s - self._forward_s
        window = min(max(spare, self._shortest_s), max(self._longest_s, self._shortest_s))
        return self._since + window - time.perf_counter()
