"""A training row with the black box's lists along its answer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltaserve.offset_models.training.rows.samples import Sample


@dataclass(frozen=True, slots=True)
class TopK:
    """The black box's k best at each answer position, best first; a list with fewer ids repeats its last entry."""

    ids: NDArray[np.int64]  # [answer, k]
    logprobs: NDArray[np.float32]  # [answer, k] nats, normalised over the whole vocabulary

    @property
    def tail_mass(self) -> NDArray[np.float64]:
        """Probability outside the list, r = 1 − Σ exp ℓ clipped at 0: [answer]."""
        masses = np.exp(self.logprobs.astype(np.float64))
        masses[:, 1:][self.ids[:, 1:] == self.ids[:, :-1]] = 0.0
        listed: NDArray[np.float64] = masses.sum(1)
        return np.clip(1.0 - listed, 0.0, None)


Listed = tuple[Sample, TopK]
# None: the black box is o itself, that is, a model of one's own is tuned.
Scored = tuple[Sample, TopK | None]
