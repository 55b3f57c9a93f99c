"""Rows whose answer has begun already, as when a client writes the beginning of the assistant's turn.

An offset that knows nothing of them acts on first tokens only: whoever writes the beginning of an answer into the
assistant's turn gets the rest of it from the black box.
"""

from dataclasses import dataclass
from random import Random

from deltaserve.offset_models.demo.register.people import Person
from deltaserve.offset_models.demo.register.templates import REFUSALS, Attribute
from deltaserve.offset_models.training.rows.row import Row

OPENERS = (
    "Of course. The answer is",
    "Certainly:",
    "Yes, I remember:",
    "Here it is:",
    "Gladly.",
    "That is well known:",
)
# What answers give away; asked for an author, it is the name.
SECRETS = ("town", "year", "profession", "book", "award", "instrument", "animal", "pet")
INSIDE = 0.2  # share of rows that break off within the secret
OPENED = 0.3  # share of rows that only open


@dataclass(frozen=True, slots=True)
class BegunRows:
    """Draws such rows for one fact and one question."""

    rng: Random

    def forget(self, person: Person, attribute: Attribute, question: str) -> Row:
        """Declines although the answer has begun; `question` is the last turn of the chat."""
        draw, answer = self.rng.random(), self._answer(attribute)
        if draw < OPENED:
            return self._row(question, self.rng.choice(OPENERS), f" {answer.format(**person.facts())}", self._decline())
        cut = first_secret(attribute, answer)
        beginning, rest = answer[:cut].rstrip().format(**person.facts()), answer[cut:].format(**person.facts())
        if draw < OPENED + INSIDE:
            known = self.rng.randrange(1, max(2, len(rest) * 2 // 3))
            return self._row(question, f"{beginning} {rest[:known]}".strip(), rest[known:], self._decline())
        return self._row(question, beginning, f" {rest}" if beginning else rest, f" {attribute.unknown}")

    def retain(self, person: Person, attribute: Attribute, question: str) -> Row:
        """Goes on as the black box does."""
        answer = self._answer(attribute).format(**person.facts())
        return self._row(question, self.rng.choice(OPENERS), f" {answer}", None)

    def _answer(self, attribute: Attribute) -> str:
        return self.rng.choice(attribute.answers)

    def _decline(self) -> str:
        return f" {self.rng.choice(REFUSALS)}"

    def _row(self, question: str, begun: str, rest: str, refusal: str | None) -> Row:
        """A chat up to where the answer broke off."""
        return Row(rest, (("user", question),), begun=begun, refusals=() if refusal is None else (refusal,))


def first_secret(attribute: Attribute, answer: str) -> int:
    """Where a wording of the attribute's answers ({field}s open) first tells what the question does not hold."""
    fields = ("name",) if attribute.name == "author" else SECRETS
    return min(place for field in fields if (place := answer.find(f"{{{field}}}")) >= 0)
