"""How the pair reads training rows, which are in the black box's tokens."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from deltaserve.offset_models.training.rows.scored import Scored


class Reading(Protocol):
    """From a row to the pair's tokens, and from the pair's logits along them back to the black box's ids."""

    def ids(self, row: Scored) -> list[int]:
        """What a model of the pair reads."""

    def places(self, row: Scored) -> range:
        """The places in `ids` whose logits are needed."""

    def tables(self, logits: Tensor, rows: Sequence[Scored]) -> Tensor:
        """Logits [n, V] of the black box's ids at the rows' answer positions, from those at their places [m, W]."""

    def shapes(self, initial: Tensor, tables: Tensor, rows: Sequence[Scored]) -> Tensor:
        """log p_o [n, V], up to a constant of a row, that a tail is imputed with; `tables` [n, V] are those of o."""

    def divergence(self, unlearned: Tensor, initial: Tensor, rows: Sequence[Scored]) -> Tensor | None:
        """KL(p_u ‖ p_o) [n] in nats as a gate is judged, from logits at the places [m, W]; None: that of the tables."""


class OwnTokens:
    """The pair has the black box's tokenizer: its logits are of the black box's ids."""

    def ids(self, row: Scored) -> list[int]:
        return row[0].ids

    def places(self, row: Scored) -> range:
        sample, _ = row
        first = len(sample.prompt_ids) - 1
        return range(first, first + len(sample.answer_ids))

    def tables(self, logits: Tensor, rows: Sequence[Scored]) -> Tensor:  # noqa: ARG002  (another reading needs them)
        return logits

    def shapes(self, initial: Tensor, tables: Tensor, rows: Sequence[Scored]) -> Tensor:  # noqa: ARG002
        return tables

    def divergence(self, unlearned: Tensor, initial: Tensor, rows: Sequence[Scored]) -> Tensor | None:  # noqa: ARG002
        return None
