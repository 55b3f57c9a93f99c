"""How often the drafts of one source are accepted."""

from dataclasses import dataclass, field

_FORGET = 0.9
_PRIOR_WEIGHT = 4.0


_FORGET_SHARED = 0.99


@dataclass(slots=True)
class Acceptance:
    """Running share of accepted drafts; starts at a prior, earlier observations fade."""

    prior: float
    forget: float = _FORGET
    _hits: float = 0.0
    _total: float = 0.0

    def add(self, share: float) -> None:
        self._hits = self.forget * self._hits + share
        self._total = self.forget * self._total + 1.0

    @property
    def value(self) -> float:
        return (self.prior * _PRIOR_WEIGHT + self._hits) / (_PRIOR_WEIGHT + self._total)


@dataclass(slots=True)
class Accepted:
    """Of both sources: the black box's own stream, and the pair's blocks."""

    upstream: Acceptance = field(default_factory=lambda: Acceptance(0.95))
    local: Acceptance = field(default_factory=lambda: Acceptance(0.6))  # until seen: the black box streams
    begun_from: "Accepted | None" = None  # of the streams like this one, to which it adds

    @classmethod
    def shared(cls) -> "Accepted":
        """What streams begin from, and add to."""
        return cls(Acceptance(0.95, _FORGET_SHARED), Acceptance(0.6, _FORGET_SHARED))

    def another(self) -> "Accepted":
        """Of one more stream, which begins from what is known here."""
        return Accepted(Acceptance(self.upstream.value), Acceptance(self.local.value), self)

    def add(self, upstream: float, local: float | None) -> None:
        self.upstream.add(upstream)
        if local is not None:
            self.local.add(local)
        if self.begun_from is not None:
            self.begun_from.add(upstream, local)
