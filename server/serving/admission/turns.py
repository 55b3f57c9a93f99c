"""Places, and whose turn it is: the client's that has the fewest, and among equals the one's whose turn is longest ago.

So a client that asks for a thousand answers delays another one's first by no more than the end of one answer, and
clients that always have something waiting have equally many places. Within a client it is first come, first served.
A client that has nothing is forgotten; one that comes anew goes before the one whose turn was the latest, and after
all that have waited longer: so none is kept waiting by others that come and go.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

Turn = asyncio.Future[None]  # done when the place is there


@dataclass(slots=True)
class _Line:
    """One client's."""

    latest: int  # number of its latest turn
    running: int = 0
    waiting: deque[Turn] = field(default_factory=deque)


class Turns:
    """`places` for clients by name."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._turns = 0  # so far
        self._lines: dict[str, _Line] = {}

    def ask(self, name: str) -> Turn:
        """A turn, done at once where a place is free; it must be left, or given up before it is done."""
        turn: Turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(name, _Line(latest=self._turns - 1)).waiting.append(turn)
        self._give()
        return turn

    def leave(self, name: str) -> None:
        """The place goes to whoever is next."""
        self._lines[name].running -= 1
        self._free += 1
        self._give()
        self._forget(name)

    def give_up(self, name: str, turn: Turn) -> None:
        """Whoever waited has gone; the place that it may have got all the same is left."""
        if turn in (waiting := self._lines[name].waiting):
            waiting.remove(turn)
            self._forget(name)
        else:
            self.leave(name)

    def _give(self) -> None:
        while self._free and (line := self._next()) is not None:
            turn = line.waiting.popleft()
            self._turns += 1
            line.running, line.latest = line.running + 1, self._turns
            self._free -= 1
            if not turn.done():  # cancelled, and not given up yet: that comes, and leaves the place
                turn.set_result(None)

    def _next(self) -> _Line | None:
        waiting = [line for line in self._lines.values() if line.waiting]
        return min(waiting, key=lambda line: (line.running, line.latest), default=None)

    def _forget(self, name: str) -> None:
        if not self._lines[name].running and not self._lines[name].waiting:
            del self._lines[name]
