"""How long the black box and the pair take, measured while serving; shared by the streams of one black box."""

from dataclasses import dataclass, field

_HOPE = 0.25  # a local token is taken to cost this share of one of the black box's until it was measured
_FORGET = 0.8  # weight that earlier measurements keep with each new one
_PATIENCE = 16  # calls of the other source since a source was used, after which its price is believed no more
_MOST_PATIENCE = 64  # with blocks, where trials find time and again that they do not pay


@dataclass(slots=True)
class Measured:
    """An exponentially weighted mean that starts from a guess."""

    value: float
    known: bool = False

    def add(self, sample: float) -> None:
        self.value = _FORGET * self.value + (1.0 - _FORGET) * sample if self.known else sample
        self.known = True


@dataclass(slots=True)
class Line:
    """y ≈ a + b·x by exponentially weighted least squares, 0 ≤ b; flat until two different x were seen."""

    _n: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0

    def add(self, x: float, y: float) -> None:
        self._n = _FORGET * self._n + 1.0
        self._x = _FORGET * self._x + x
        self._y = _FORGET * self._y + y
        self._xx = _FORGET * self._xx + x * x
        self._xy = _FORGET * self._xy + x * y

    @property
    def known(self) -> bool:
        return self._n > 0.0

    def __call__(self, x: float) -> float:
        """y at x; call it only when something is known."""
        spread = self._n * self._xx - self._x * self._x
        slope = (self._n * self._xy - self._x * self._y) / spread if spread > 1e-6 * self._xx else 0.0
        slope = max(slope, 0.0)
        return (self._y - slope * self._x) / self._n + slope * x


@dataclass(slots=True)
class Pace:
    """Seconds. The guesses are replaced by what is measured from the first call on.

    What a source costs only that source can tell. A price from when the machine was busy would keep it from being used,
    and so stand for good: after some calls of the other one it is believed no more. Then a short block is tried, whose
    price takes the old one's place, or the black box streams once.
    """

    first_token_s: Measured = field(default_factory=lambda: Measured(0.2))  # opening a call → its first proposal
    token_s: Measured = field(default_factory=lambda: Measured(0.03))  # between proposals of one call
    local_s: Measured = field(default_factory=lambda: Measured(0.0))  # one locally drafted token
    decided_s: Measured = field(default_factory=lambda: Measured(0.0))  # to decide one token of a block that is there
    block_extra_s: Line = field(default_factory=Line)  # what a block call took beyond that, against its positions
    block_positions: int = 0  # in flight now, over all streams
    _opened: int = 0  # streams since a block was drafted
    _blocks: int = 0  # blocks since a stream was opened
    _patience: int = _PATIENCE
    _trial: bool = False  # what is measured next takes the place of what was measured before

    @property
    def old(self) -> bool:
        """Whether the price of blocks is too old to be believed."""
        return self._opened >= self._patience

    @property
    def stream_old(self) -> bool:
        """Whether the price of the black box's own stream is too old to be believed."""
        return self._blocks >= _PATIENCE

    def opened(self, seconds: float) -> None:
        """The first proposal of a call came `seconds` after the call."""
        self.first_token_s.add(seconds)
        self._opened, self._blocks = self._opened + 1, 0

    def tried(self) -> None:
        """A block is about to be drafted. Where its price is old this is a trial, of which there is one at a time."""
        if self.old:
            self._trial, self._patience = True, min(2 * self._patience, _MOST_PATIENCE)
        elif not self._trial:
            self._patience = _PATIENCE
        self._opened, self._blocks = 0, self._blocks + 1

    def drafted(self, seconds: float) -> None:
        """Each token of a block took the pair `seconds`."""
        if self._trial:
            self.local_s = Measured(seconds)
        self.local_s.add(seconds)

    def scored(self, positions: int, seconds: float) -> None:
        """A call that scored a block of `positions` took `seconds`."""
        if self._trial:
            self.block_extra_s, self._trial = Line(), False
        self.block_extra_s.add(positions, seconds - self.first_token_s.value)

    def local(self, hopeful: bool = False) -> float:
        """Seconds a locally drafted token takes; `hopeful` until one was drafted, so that it is tried."""
        return self.token_s.value * _HOPE if hopeful or not self.local_s.known else self.local_s.value

    def block(self, positions: int, hopeful: bool = False) -> float:
        """Seconds of a call that scores a block; `hopeful` until there was one, as long as any call.

        Kept as the excess over opening a stream, which is measured all the time: blocks may not have been tried since
        the machine or the black box became busy, and would look cheap.
        """
        extra = 0.0 if hopeful or not self.block_extra_s.known else self.block_extra_s(positions)
        return self.first_token_s.value + max(extra, 0.0)
