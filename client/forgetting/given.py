"""Where the rows of `deltaserve forget` come from, as far as its plan cares."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from deltaserve.client.console import training_options as options
from deltaserve.client.evaluation.data.items import Suite
from deltaserve.client.evaluation.data.request_suite import suite_of_rows
from deltaserve.offset_models.training.learning.settings import TrainingSettings

if TYPE_CHECKING:
    from deltaserve.offset_models.training.forget import Plan
    from deltaserve.offset_models.training.rows.dataset import Data


class RowsGiven(Protocol):
    """Rows of files, or made from a name."""

    @property
    def to_hold_out(self) -> str:
        """What to do so that rows are held out, where none are."""

    def data(self, settings: TrainingSettings, answer_tokens: int, *, open_choice: bool) -> "tuple[Data, Data | None]":
        """What is trained, and what chooses step, strength and gate: None where nothing is held out.

        `open_choice`: another objective may be tried than that of the settings.
        """

    def judged(self, plan: "Plan") -> dict[str, float]:
        """Figures of rows that neither trained nor chose, asked of the packed checkpoint; empty without such rows."""

    def suite(self, plan: "Plan") -> Suite:
        """What an attack on the checkpoint asks for: held-out rows where there are any."""


@dataclass(frozen=True, slots=True)
class FromFiles:
    """Rows that somebody wrote."""

    rows: options.Sources
    held: options.Sources | None

    @property
    def to_hold_out(self) -> str:
        return "give --held-out-forget and --held-out-retain"

    def data(self, settings: TrainingSettings, answer_tokens: int, *, open_choice: bool) -> "tuple[Data, Data | None]":
        """Raises BadRow."""
        answers = options.answers_needed(settings, judged=self.held is None, open_choice=open_choice)
        held = None if self.held is None else self.held.data("reference", answer_tokens)
        return self.rows.data(answers, answer_tokens), held

    def judged(self, plan: "Plan") -> dict[str, float]:  # noqa: ARG002  (nothing is left that could judge)
        return {}

    def suite(self, plan: "Plan") -> Suite:
        return suite_of_rows((plan.held or plan.data).forget, plan.data.retain)
