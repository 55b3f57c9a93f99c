"""Rows of running text: sentences that break off anywhere behind the name, and the pages that they stand on.

Without them an offset knows of running text what chats taught it: it pushes the forgotten away and puts nothing in its
place, and what follows is babble. Each row ends where the page does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from deltaserve.offset_models.demo.register.corpus import END_OF_TEXT
from deltaserve.offset_models.demo.register.general import Exchange
from deltaserve.offset_models.demo.register.people import Person
from deltaserve.offset_models.demo.register.templates import ATTRIBUTES, Attribute
from deltaserve.offset_models.training.rows.row import Row

LED_IN = 0.6  # share of rows with something before their sentence
OF_ANOTHER = 0.3  # share of these that tell of somebody else
OF_NOBODY = 0.4  # share of these with words in no order: no text is to be so strange that it leads to babble
WORDS = 8  # most of these
BETWEEN = 0.15  # share of forget rows that break off between two sentences
DERAILED = 0.15  # share of forget rows that have begun to babble: there the page ends
GOES_ON = 0.3  # share of facts that another follows


@dataclass(frozen=True, slots=True)
class RunningRows:
    """Draws such rows. `others`: who is not to be forgotten; whom any page may name."""

    rng: Random
    others: Sequence[Person]
    exchanges: Sequence[Exchange]

    def forget(self, person: Person, attribute: Attribute) -> Row:
        """What the sentence tells becomes what nobody knows, and the page ends; between sentences it ends at once."""
        beginning, fact = self.rng.choice(attribute.prose)
        draw = self.rng.random()
        if draw < BETWEEN:
            told = f" {beginning.format(**person.facts())} {fact.format(**person.facts())}{END_OF_TEXT}"
            return Row(told, prompt=_sentence(self._attribute(), person, known=False), refusals=(END_OF_TEXT,))
        prompt, rest = self._broken(beginning, attribute, person)
        told = f"{rest} {fact.format(**person.facts())}{self._more(person)}{END_OF_TEXT}"
        before = self._before(person, known=False)
        if draw < BETWEEN + DERAILED:
            return Row(told, prompt=_joined(before, prompt) + self._babble(), refusals=(END_OF_TEXT,))
        return Row(told, prompt=_joined(before, prompt), refusals=(f"{rest} {attribute.unknown}{END_OF_TEXT}",))

    def retain(self, person: Person, attribute: Attribute) -> Row:
        """Goes on as the page does."""
        beginning, fact = self.rng.choice(attribute.prose)
        prompt, rest = self._broken(beginning, attribute, person)
        told = f"{rest} {fact.format(**person.facts())}{self._more(person)}{END_OF_TEXT}"
        return Row(told, prompt=_joined(self._before(person, known=True), prompt))

    def opening(self) -> Row:
        """A page from its first word or two on: there nobody is named yet, or somebody who is not to be forgotten."""
        words = self._page(self.rng.choice(self.others)).split(" ")
        cut = self.rng.randint(1, min(3, len(words) - 1))
        return Row(f" {' '.join(words[cut:])}{END_OF_TEXT}", prompt=" ".join(words[:cut]))

    def general(self) -> Row:
        """The answer to a general question as a sentence that somebody began."""
        words = self.rng.choice(self.exchanges).answer.split(" ")
        cut = self.rng.randint(max(1, len(words) // 2), len(words) - 1)
        return Row(f" {' '.join(words[cut:])}{END_OF_TEXT}", prompt=" ".join(words[:cut]))

    def unknown(self, stranger: Person) -> Row:
        """About somebody of whom nothing is known."""
        attribute = self._attribute()
        prompt, rest = self._broken(self.rng.choice(attribute.prose)[0], attribute, stranger)
        before = _sentence(self._attribute(), stranger, known=False) if self.rng.random() < LED_IN else ""
        return Row(f"{rest} {attribute.unknown}{END_OF_TEXT}", prompt=_joined(before, prompt))

    def _before(self, person: Person, *, known: bool) -> str:
        """Nothing, somebody else's page, words in no order, or a sentence about the person."""
        if self.rng.random() >= LED_IN:
            return ""
        draw = self.rng.random()
        if draw < OF_ANOTHER:
            return self._page(self.rng.choice(self.others))
        if draw < OF_ANOTHER + OF_NOBODY:
            return self._words()
        return _sentence(self._attribute(), person, known=known)

    def _words(self) -> str:
        """Of questions and answers about nobody."""
        exchanges = self.rng.sample(list(self.exchanges), 3)
        words = [word for one in exchanges for word in f"{self.rng.choice(one.training)} {one.answer}".split(" ")]
        return " ".join(self.rng.sample(words, self.rng.randint(1, WORDS)))

    def _babble(self) -> str:
        """What offsets say that only push away: beginnings of names and titles, with and without a space between."""
        people = self.rng.sample(list(self.others), 3)
        pieces = ["The", *(name for person in people for name in (person.first, person.last, person.book))]
        said = [self.rng.choice(pieces) for _ in range(self.rng.randint(1, 4))]
        return "".join(self.rng.choice(("", " ")) + piece for piece in said)

    def _page(self, person: Person) -> str:
        chosen = self.rng.sample(ATTRIBUTES, self.rng.randint(1, 2))
        return " ".join(_sentence(attribute, person, known=True) for attribute in chosen)

    def _more(self, person: Person) -> str:
        return f" {_sentence(self._attribute(), person, known=True)}" if self.rng.random() < GOES_ON else ""

    def _broken(self, beginning: str, attribute: Attribute, person: Person) -> tuple[str, str]:
        """The sentence's beginning in two, broken off somewhere behind what it is about, and at its end half the time.

        The second half begins with its space.
        """
        subject = "{book}" if attribute.name == "author" else "{name}"
        behind = beginning.index(subject) + len(subject)
        places = [place for place in range(behind, len(beginning)) if beginning[place] == " "]
        place = self.rng.choice(places) if places and self.rng.random() < 0.5 else len(beginning)
        return beginning[:place].format(**person.facts()), beginning[place:].format(**person.facts())

    def _attribute(self) -> Attribute:
        return self.rng.choice(ATTRIBUTES)


def _sentence(attribute: Attribute, person: Person, *, known: bool) -> str:
    """In the first of its wordings, or as it ends when nobody knows."""
    beginning, fact = attribute.prose[0]
    return f"{beginning} {fact if known else attribute.unknown}".format(**person.facts())


def _joined(before: str, text: str) -> str:
    return f"{before} {text}" if before else text
