"""Replicas and black boxes of the simulation, and the prefix caches of the latter."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Talk:
    """A conversation: what was said so far, the replica that its name leads to, and who knows which box has it.

    `spare`: where its name leads if `home` is away.
    """

    tokens: int
    home: int
    spare: int = 0
    known_to: tuple["Replica", int] | None = None  # and in which life
    box: "Box | None" = None


@dataclass(slots=True)
class Cache:
    """Prefixes by conversation, in tokens; the one that was used longest ago makes room."""

    capacity: int
    _held: "OrderedDict[Talk, int]" = field(default_factory=OrderedDict)
    _tokens: int = 0

    def known(self, talk: Talk) -> int:
        """Tokens of this conversation's beginning."""
        return self._held.get(talk, 0)

    def computed(self, talk: Talk, tokens: int) -> None:
        self._tokens += tokens - self._held.pop(talk, 0)
        self._held[talk] = tokens
        while self._tokens > self.capacity and len(self._held) > 1:
            self._tokens -= self._held.popitem(last=False)[1]


@dataclass(frozen=True, slots=True)
class Pace:
    """Of a black box."""

    token_s: float = 0.025
    first_s: float = 0.04
    prefill_s: float = 20e-6  # each token that its cache does not have
    slots: int = 64  # streams that it runs at full speed
    cache_tokens: int = 400_000


@dataclass(slots=True, eq=False)
class Box:
    pace: Pace
    cache: Cache
    active: int = 0

    def token_s(self) -> float:
        return self.pace.token_s * max(1.0, self.active / self.pace.slots)


@dataclass(slots=True, eq=False)
class Replica:
    """`life` grows when it is killed: answers of an earlier life are torn."""

    active: int = 0
    life: int = 0
    alive: bool = True
    fenced: bool = False
    listed: bool = True  # by the proxy, which looks every so often
    queue: "deque[Answer]" = field(default_factory=deque)

    @property
    def answers(self) -> bool:
        return self.alive and not self.fenced


@dataclass(slots=True, eq=False)
class Answer:
    session: int
    talk: Talk
    left: int
    until_restart: int
    replica: Replica
    life: int
    box: Box | None = None
    done: int = 0
    asked: float = 0.0
    restarts: bool = False  # its next call is not its first

    @property
    def torn(self) -> bool:
        return self.replica.life != self.life
