"""How long a batch waits for other streams: a forward costs about as much for one row as for eight.

A row is computed as soon as its last token is known, and needed when the black box has drawn the next one. A batch
waits for half of that time, less what the forward takes, and not at all once a caller waits for a row.
"""

import time
from dataclasses import dataclass

from deltaserve.offset_models.engine.streams import EngineStream

_FORGET = 0.9  # weight that earlier times keep with each new one
_LONGEST_PAUSE_S = 1.0  # between two feeds of a stream; beyond it the stream was held up by something else


@dataclass(slots=True)
class RunningMean:
    """An exponentially weighted mean; the first value counts whole where there is none yet."""

    value: float | None = None

    def add(self, sample: float) -> None:
        self.value = sample if self.value is None else _FORGET * self.value + (1.0 - _FORGET) * sample


class BatchWindow:
    """The engine thread's view of the streams' rhythm."""

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._between_s = RunningMean()  # two feeds of one stream
        self._forward_s = RunningMean(0.0)  # a batch
        self._since = 0.0  # when the first stream of the next batch was fed
        self._hurried = False

    def fed(self, stream: EngineStream, *, first: bool) -> None:
        """New ids came; `first`: nothing else is to be computed yet."""
        now = time.perf_counter()
        if first:
            self._since = now
        if stream.fed_at is not None and now - stream.fed_at < _LONGEST_PAUSE_S:
            self._between_s.add(now - stream.fed_at)
        stream.fed_at = now

    def hurry(self, *, urgent: bool) -> None:
        """A caller waits for a row; `urgent`: one of the next batch."""
        self._hurried = self._hurried or urgent

    def ran(self, seconds: float) -> None:
        """A batch was computed."""
        self._forward_s.add(seconds)
        self._since = time.perf_counter()
        self._hurried = False

    def worth_waiting_s(self) -> float:
        """Seconds that the next batch may still wait; 0 or less: it should run."""
        if self._hurried:
            return 0.0
        between_s, forward_s = self._between_s.value, self._forward_s.value or 0.0
        spare = 0.0 if between_s is None else 0.5 * between_s - forward_s
        window = min(max(spare, self._shortest_s), max(self._longest_s, self._shortest_s))
        return self._since + window - time.perf_counter()
