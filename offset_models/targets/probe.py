"""A probe: something to ask about a subject, in a form, before or after it is answered."""

from dataclasses import dataclass, replace

from deltaserve.offset_models.targets.subject import Fact, Subject
from deltaserve.offset_models.training.rows.row import Row


@dataclass(frozen=True, slots=True)
class Probe:
    """`row` is the prompt; its completion is None until the black box, or a fact, has answered it.

    `secrets` are the words that must not come out where the subject is the target: the fact's value, or the subject's
    own name for reversed forms.
    """

    form: str  # its name in the table of forms: "direct", "cloze", "reversed"
    subject: Subject
    row: Row
    fact: Fact | None = None  # None: about the subject as a whole
    secrets: tuple[str, ...] = ()
    wording: str = ""  # of the form: probes of several facts share it

    @property
    def prompt(self) -> tuple[object, ...]:
        """What is sent, without the answer: equal where the same is asked."""
        return (self.row.messages, self.row.begun, self.row.prompt)

    def answered(self, completion: str) -> "Probe":
        return replace(self, row=replace(self.row, completion=completion))
