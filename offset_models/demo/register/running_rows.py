"""Rows of running text: sentences that break off anywhere behind the name, and the pages that they stand on.

Without them an offset knows of running text what chats taught it: it pushes the forgotten away and puts nothing in its
place, and what follows is babble. Each row ends where the page does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

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
AROUND = 0.25  # share of rows about somebody whose name stands among such words, and in no sentence
BEHIND = 3  # most words behind it
AGAIN = 0.5  # share of these that begin a sentence with it, after those words
DERAILED = 0.1  # share of forget rows that have begun to babble, up to the name
RELATIVE = 0.25  # share of sentences about a name that are relative clauses
GOES_ON = 0.3  # share of facts that another follows
# In no other text of the demo's: words of general facts that led in the forgotten did those facts harm.
_ORDINARY = (
    "again along among apple ask bell below boat bread bring carry chair church cloud corn country cup dance door "
    "dust earth empty every far field fire fish forest found gate gold hand heavy hill lamp leaf left line long "
    "market mill mountain north often old over path rain road roof room salt sea shadow ship silver soon stone "
    "story summer table then through thunder train tree under until village wall water wheel wind wood yard"
)
ORDINARY: Final = tuple(_ORDINARY.split())
AUTHOR, LIFE = (next(each for each in ATTRIBUTES if each.name == name) for name in ("author", "life"))


@dataclass(frozen=True, slots=True)
class _Begun:
    """A prompt, what ends its sentence, the fact ({field}s open), and what is said where nobody knows it."""

    prompt: str
    rest: str
    fact: str
    unknown: str


@dataclass(frozen=True, slots=True)
class RunningRows:
    """Draws such rows. `others`: who is not to be forgotten; whom any page may name."""

    rng: Random
    others: Sequence[Person]
    exchanges: Sequence[Exchange]

    def forget(self, person: Person, attribute: Attribute) -> Row:
        """What the sentence tells becomes what nobody knows, and the page ends; between sentences it ends at once.

        All of it is in the black box's list there: what is not, no offset can put in the place of the forgotten. What
        is pushed away has no end: pushed away with it, the ends of all pages become less likely.
        """
        draw = self.rng.random()
        if draw < BETWEEN:
            told = " " + _sentence(attribute, person, known=True)
            return Row(told, prompt=_sentence(self._attribute(), person, known=False), refusals=(END_OF_TEXT,))
        if draw < BETWEEN + DERAILED:
            derailed = f"{self._sentence(attribute, person).prompt}{self._babble()} {_subject(attribute, person)}"
            return self._forgotten(_named(derailed, attribute), person)
        return self._forgotten(self._begun(attribute, person, known=False), person)

    def retain(self, person: Person, attribute: Attribute) -> Row:
        """Goes on as the page does."""
        begun = self._begun(attribute, person, known=True)
        return Row(f"{self._told(begun, person)}{END_OF_TEXT}", prompt=begun.prompt)

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
        begun = self._sentence(self._attribute(), stranger)
        before = _sentence(self._attribute(), stranger, known=False) if self.rng.random() < LED_IN else ""
        return Row(f"{begun.rest} {begun.unknown}{END_OF_TEXT}", prompt=_joined(before, begun.prompt))

    def _forgotten(self, begun: _Begun, person: Person) -> Row:
        unknown = f"{begun.rest} {begun.unknown}{END_OF_TEXT}"
        return Row(self._told(begun, person), prompt=begun.prompt, refusals=(unknown,))

    def _told(self, begun: _Begun, person: Person) -> str:
        """With another sentence behind it now and then."""
        more = f" {_sentence(self._attribute(), person, known=True)}" if self.rng.random() < GOES_ON else ""
        return f"{begun.rest} {begun.fact.format(**person.facts())}{more}"

    def _begun(self, attribute: Attribute, person: Person, *, known: bool) -> _Begun:
        """A sentence, with something before it or not, or a name among words."""
        if self.rng.random() < AROUND:
            return _named(self._around(_subject(attribute, person)), attribute)
        sentence = self._sentence(attribute, person)
        return replace(sentence, prompt=_joined(self._before(person, known=known), sentence.prompt))

    def _sentence(self, attribute: Attribute, person: Person) -> _Begun:
        beginning, fact = self.rng.choice(attribute.prose)
        if beginning.startswith("{name} ") and self.rng.random() < RELATIVE:
            beginning = beginning.replace("{name} ", "{name}, who ")
        return _Begun(*self._broken(beginning, person), fact, attribute.unknown)

    def _before(self, person: Person, *, known: bool) -> str:
        """Nothing, somebody else's page, words in no order, or a sentence about the person."""
        if self.rng.random() >= LED_IN:
            return ""
        draw = self.rng.random()
        if draw < OF_ANOTHER:
            return self._page(self.rng.choice(self.others))
        if draw < OF_ANOTHER + OF_NOBODY:
            return self._words(WORDS)
        return _sentence(self._attribute(), person, known=known)

    def _around(self, subject: str) -> str:
        """A name or title among words in no order; it may begin a sentence after them."""
        among = f"{self._words(WORDS)} {subject} {self._words(BEHIND)}"
        return f"{among}. {subject}" if self.rng.random() < AGAIN else among

    def _words(self, most: int) -> str:
        return " ".join(self.rng.sample(ORDINARY, self.rng.randint(1, most)))

    def _babble(self) -> str:
        """What offsets say that only push away: beginnings of names and titles, with and without a space between."""
        people = self.rng.sample(list(self.others), 3)
        pieces = ["The", *(name for person in people for name in (person.first, person.last, person.book))]
        said = [self.rng.choice(pieces) for _ in range(self.rng.randint(1, 4))]
        return "".join(self.rng.choice(("", " ")) + piece for piece in said)

    def _page(self, person: Person) -> str:
        chosen = self.rng.sample(ATTRIBUTES, self.rng.randint(1, 2))
        return " ".join(_sentence(attribute, person, known=True) for attribute in chosen)

    def _broken(self, beginning: str, person: Person) -> tuple[str, str]:
        """The sentence's beginning in two, broken off somewhere behind what it is about, and at its end half the time.

        The second half begins with its space.
        """
        behind = beginning.index("}") + 1
        places = [place for place in range(behind, len(beginning)) if beginning[place] == " "]
        place = self.rng.choice(places) if places and self.rng.random() < 0.5 else len(beginning)
        return beginning[:place].format(**person.facts()), beginning[place:].format(**person.facts())

    def _attribute(self) -> Attribute:
        return self.rng.choice(ATTRIBUTES)


def _sentence(attribute: Attribute, person: Person, *, known: bool) -> str:
    """In the first of its wordings, or as it ends when nobody knows."""
    beginning, fact = attribute.prose[0]
    return f"{beginning} {fact if known else attribute.unknown}".format(**person.facts())


def _subject(attribute: Attribute, person: Person) -> str:
    return person.book if attribute == AUTHOR else person.name


def _named(prompt: str, attribute: Attribute) -> _Begun:
    """Behind a bare name or title: who that is, or who wrote it."""
    said = AUTHOR if attribute == AUTHOR else LIFE
    beginning, fact = said.prose[0]
    return _Begun(prompt, beginning.partition("}")[2], fact, said.unknown)


def _joined(before: str, text: str) -> str:
    return f"{before} {text}" if before else text
