"""How often the drafts of one source are accepted."""

from dataclasses import dataclass

_FORGET = 0.9
_PRIOR_WEIGHT = 4.0


@dataclass(slots=True)
class Acceptance:
    """Running share of accepted drafts; starts at a prior, earlier observations fade."""

    prior: float
    _hits: float = 0.0
    _total: float = 0.0

    def add(self, share: float) -> None:
        self._hits = _FORGET * self._hits + share
        self._total = _FORGET * self._total + 1.0

    @property
    def value(self) -> float:
        return (self.prior * _PRIOR_WEIGHT + self._hits) / (_PRIOR_WEIGHT + self._total)
