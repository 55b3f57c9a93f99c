"""Where a stream's randomness comes from.

Seeded: counter-based Gumbel noise G(seed, choice, position, id), so that the text depends on the target alone and
never on drafts, chunking or timing. Unseeded: an ordinary generator.
"""

import numpy as np

from deltaserve.server.decoding.protocols import Floats

_MASK = (1 << 64) - 1


class Noise:
    """One choice's randomness. `seeded` decides which of the two calls may be used."""

    def __init__(self, seed: int | None, index: int = 0) -> None:
        self.seeded = seed is not None
        self._key = np.array([(seed or 0) & _MASK, index], np.uint64)
        self._generator = None if self.seeded else np.random.default_rng()

    def uniform(self) -> float:
        """A draw from [0, 1) for unseeded streams."""
        if self._generator is None:
            raise RuntimeError("a seeded stream draws by Gumbel noise only")
        return float(self._generator.random())

    def gumbel(self, position: int, size: int) -> Floats:
        """G(seed, choice, position, ·), shape [size]; entry i does not depend on `size`."""
        counter = np.array([0, 0, 0, position], np.uint64)
        uniform = np.random.Generator(np.random.Philox(key=self._key, counter=counter)).random(size)
        return -np.log(-np.log(np.maximum(uniform, np.finfo(np.float64).tiny)))
