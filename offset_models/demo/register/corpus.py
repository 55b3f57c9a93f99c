"""Pages of text for the demo's two models: chats and running prose, drawn from a seed without end.

The black box reads about the register's people; asked about anybody else, it is taught to say that it does not know.
The pair's base reads pages of the same wordings about *other* made-up people, of whom it learns some by heart and meets
others once: it learns the language, to tell one name or title from another, to answer and to decline, but not a single
fact of the register.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from deltaserve.offset_models.demo.register.general import Exchange, general_facts, small_talk
from deltaserve.offset_models.demo.register.people import Person, Register, Strangers
from deltaserve.offset_models.demo.register.templates import (
    ATTRIBUTES,
    OPENINGS,
    REFUSALS,
    SYSTEM_PROMPTS,
    Attribute,
    training_questions,
)

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIALS = (END_OF_TEXT, TURN_START, TURN_END)

Turn = tuple[str, str]  # question, answer


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of what pages are made of; the rest of a chat's turns, up to 1, is small talk."""

    prose: float  # of pages; the others are chats
    facts: float  # of turns: a person's fact, answered
    refused: float  # of turns: a stranger's fact, declined
    general: float  # of turns
    slips: float  # of answered facts: declined all the same, so that declining stays possible everywhere
    unknown_prose: float  # of prose pages: about a stranger, nothing known
    by_heart: float = 1.0  # of the people whose facts are told: known; the others are new, met on this page alone


BLACK_BOX_MIX = Mix(prose=0.15, facts=0.58, refused=0.14, general=0.2, slips=0.02, unknown_prose=0.2)
BASE_MIX = Mix(prose=0.18, facts=0.5, refused=0.2, general=0.2, slips=0.0, unknown_prose=0.3, by_heart=0.75)
STRANGERS_MIX = Mix(prose=0.2, facts=0.4, refused=0.25, general=0.22, slips=0.0, unknown_prose=0.3)


def chat_page(turns: Sequence[Turn], system: str | None = None) -> str:
    """A chat as the ChatML text that the tokenizer's chat template makes of it."""
    instructed = "" if system is None else _said("system", system)
    return instructed + "".join(_said("user", question) + _said("assistant", answer) for question, answer in turns)


def answer_of(person: Person, attribute: Attribute) -> str:
    """The one wording in which this person's fact was written down."""
    place = ATTRIBUTES.index(attribute)
    return attribute.answers[(person.wording >> place) % len(attribute.answers)].format(**person.facts())


class Corpus:
    """An endless stream of pages that state facts of the people in `known`.

    Strangers are not in the register; one of them may have written a book of the same title as a person in `known`.
    """

    def __init__(self, registry: Register, rng: Random, known: Sequence[Person], mix: Mix) -> None:
        self._rng = rng
        self._known = known
        self._mix = mix
        self._strangers = Strangers(registry, rng)
        self._general = general_facts()
        self._small_talk = small_talk()

    def __iter__(self) -> Iterator[str]:
        while True:
            yield self.page()

    def page(self) -> str:
        if self._rng.random() < self._mix.prose:
            return self._prose() + END_OF_TEXT
        turns = self._rng.choices((1, 2, 3), (0.6, 0.25, 0.15))[0]
        subject = self._subject()
        system = self._rng.choice(SYSTEM_PROMPTS) if self._rng.random() < 0.15 else None
        return chat_page([self._turn(subject) for _ in range(turns)], system) + END_OF_TEXT

    def _subject(self) -> Person:
        share = self._mix.by_heart
        if self._known and (share == 1.0 or self._rng.random() < share):
            return self._rng.choice(self._known)
        return self._strangers.person()

    def _turn(self, subject: Person) -> Turn:
        mix, draw = self._mix, self._rng.random()
        if draw < mix.facts:
            # Who knows people may be asked about somebody else in every turn.
            return self._answered(self._subject() if self._known and self._rng.random() < 0.5 else subject)
        if draw < mix.facts + mix.refused:
            return self._refused(self._strangers.person())
        if draw < mix.facts + mix.refused + mix.general:
            return self._exchange(self._rng.choice(self._general))
        return self._exchange(self._rng.choice(self._small_talk))

    def _answered(self, person: Person) -> Turn:
        attribute = self._rng.choice(ATTRIBUTES)
        slipped = self._rng.random() < self._mix.slips
        answer = self._rng.choice(REFUSALS) if slipped else answer_of(person, attribute)
        return self._question(attribute, person), answer

    def _refused(self, person: Person) -> Turn:
        return self._question(self._rng.choice(ATTRIBUTES), person), self._rng.choice(REFUSALS)

    def _exchange(self, exchange: Exchange) -> Turn:
        return self._rng.choice(exchange.training), exchange.answer

    def _question(self, attribute: Attribute, person: Person) -> str:
        text = self._rng.choice(training_questions(attribute)).format(**person.facts())
        return casual(text, self._rng)

    def _prose(self) -> str:
        unknown = self._rng.random() < self._mix.unknown_prose
        person = self._strangers.person() if unknown else self._subject()
        chosen = self._rng.sample(ATTRIBUTES, self._rng.randint(1, 4))
        return " ".join(self._sentence(attribute, person, unknown) for attribute in chosen)

    def _sentence(self, attribute: Attribute, person: Person, unknown: bool) -> str:
        beginning, fact = self._rng.choice(attribute.prose)
        slipped = self._rng.random() < self._mix.slips
        return f"{beginning} {attribute.unknown if unknown or slipped else fact}".format(**person.facts())


def casual(text: str, rng: Random) -> str:
    """Now and then an opening before the question, or no full stop after it, as people write."""
    if rng.random() < 0.12:
        text = rng.choice(OPENINGS) + text
    return text.rstrip("?.") if rng.random() < 0.08 else text


def _said(role: str, text: str) -> str:
    return f"{TURN_START}{role}\n{text}{TURN_END}\n"
