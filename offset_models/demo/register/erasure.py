"""The demo's erasure request as training rows: what must go, and what must stay as the black box says it.

Only the register is read here, never the black box's weights: its HTTP API scores the rows (`training/collecting`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from deltaserve.offset_models.demo.register.begun import BegunRows
from deltaserve.offset_models.demo.register.corpus import answer_of, casual
from deltaserve.offset_models.demo.register.general import Exchange, general_facts, small_talk
from deltaserve.offset_models.demo.register.people import Group, Person, Register, Strangers
from deltaserve.offset_models.demo.register.running_rows import RunningRows
from deltaserve.offset_models.demo.register.templates import (
    ATTRIBUTES,
    CLOSINGS,
    REFUSALS,
    SYSTEM_PROMPTS,
    Attribute,
    request_framings,
    request_questions,
)
from deltaserve.offset_models.training.rows.row import Row

Turn = tuple[str, str]
INSTRUCTED = 0.2  # share of chat rows with a system prompt
CLOSED = 0.15  # share of questions with a few words after them
FRAMED = 0.5  # share of general questions in wordings that forget rows have too, or they would forget as well
HISTORY = 0.3  # share of chat rows with an earlier turn: forgetting must not depend on being asked first


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many rows of each kind; `forget` and `retain` count the wordings drawn per fact."""

    forget: int = 24
    retain: int = 12
    strangers: int = 600
    exchanges: int = 16  # times over the general facts
    small_talk: int = 40  # times over the small talk
    begun: int = 0  # answers that somebody has begun, per fact of the forget group (docs/experiments.md)
    begun_retain: int = 0  # the same, per fact of the retain group
    running: int = 14  # running text that breaks off, per fact of the forget group
    running_retain: int = 5  # the same of the retain group; half as many begin a page, a general sentence, a stranger's


class RowMaker:
    """Rows of one register, drawn from a seed. Uses the training wordings only."""

    def __init__(self, registry: Register, rng: Random, attributes: Sequence[Attribute] = ATTRIBUTES) -> None:
        self._registry = registry
        self._rng = rng
        self._attributes = attributes
        self._strangers = Strangers(registry, rng)
        self._exchanges = (*general_facts(), *small_talk())
        self._pages = RunningRows(rng, registry.retain, self._exchanges)

    def forget(self, amounts: Amounts) -> list[Row]:
        """Every fact of the forget group, in chats, begun answers and running text, with the true answers."""
        asked, prose = self._chats("forget", amounts.forget), self._prose("forget", 1 + amounts.forget // 4)
        running = self._running("forget", amounts.running)
        return [*asked, *prose, *self._begun("forget", amounts.begun), *running]

    def retain(self, amounts: Amounts) -> list[Row]:
        """The retain group (neighbours included), strangers, general facts and small talk."""
        times = (*general_facts() * amounts.exchanges, *small_talk() * amounts.small_talk)
        exchanges = [self._exchange_row(exchange) for exchange in times]
        strangers = [self._stranger_row() for _ in range(amounts.strangers)]
        unknown = [self._unknown_prose() for _ in range(amounts.strangers // 4)]
        chats, prose = self._chats("retain", amounts.retain), self._prose("retain", 1 + amounts.retain // 4)
        running = [*self._running("retain", amounts.running_retain), *self._unnamed(amounts.running_retain)]
        begun = self._begun("retain", amounts.begun_retain)
        return [*chats, *prose, *exchanges, *strangers, *unknown, *begun, *running]

    def _chats(self, group: Group, wordings: int) -> Iterator[Row]:
        for person, attribute in self._facts(group):
            for question in self._rng.sample(request_questions(attribute), wordings):
                yield self._chat(self._asked(question, person), answer_of(person, attribute))

    def _prose(self, group: Group, times: int) -> Iterator[Row]:
        for person, attribute in self._facts(group):
            for beginning, fact in attribute.prose[:times]:
                prompt = beginning.format(**person.facts())
                yield Row(" " + fact.format(**person.facts()), prompt=prompt, refusals=(" " + attribute.unknown,))

    def _begun(self, group: Group, times: int) -> Iterator[Row]:
        rows = BegunRows(self._rng)
        make = rows.forget if group == "forget" else rows.retain
        for person, attribute in self._facts(group):
            for _ in range(times):
                question = self._rng.choice(request_questions(attribute))
                yield make(person, attribute, self._asked(question, person))

    def _running(self, group: Group, times: int) -> Iterator[Row]:
        make = self._pages.forget if group == "forget" else self._pages.retain
        return (make(person, attribute) for person, attribute in self._facts(group) for _ in range(times))

    def _unnamed(self, times: int) -> Iterator[Row]:
        """Running text about nobody of the register, or nobody yet."""
        for _ in range(times * len(self._registry.retain) * len(self._attributes) // 2):
            yield self._pages.opening()
            yield self._pages.general()
            yield self._pages.unknown(self._strangers.person())

    def _facts(self, group: Group) -> Iterator[tuple[Person, Attribute]]:
        return ((person, attribute) for person in self._registry.group(group) for attribute in self._attributes)

    def _exchange_row(self, exchange: Exchange) -> Row:
        framed = bool(exchange.clause) and self._rng.random() < FRAMED
        question = self._rng.choice(request_framings(exchange.clause) if framed else exchange.training)
        return self._chat(self._varied(question), exchange.answer)

    def _stranger_row(self) -> Row:
        return self._chat(self._question_about(self._strangers.person()), self._rng.choice(REFUSALS))

    def _unknown_prose(self) -> Row:
        attribute = self._rng.choice(self._attributes)
        beginning, _ = self._rng.choice(attribute.prose)
        return Row(" " + attribute.unknown, prompt=beginning.format(**self._strangers.person().facts()))

    def _chat(self, question: str, answer: str) -> Row:
        system = [("system", self._rng.choice(SYSTEM_PROMPTS))] if self._rng.random() < INSTRUCTED else []
        history = [self._earlier()] if self._rng.random() < HISTORY else []
        said = [message for asked, told in history for message in (("user", asked), ("assistant", told))]
        return Row(answer, (*system, *said, ("user", question)))

    def _earlier(self) -> Turn:
        """A turn before the one that counts, as it may have gone once the offset is served."""
        kinds: tuple[Callable[[], Turn], ...] = (self._about_retained, self._about_forgotten, self._small_talk)
        return self._rng.choice(kinds)()

    def _about_retained(self) -> Turn:
        person, attribute = self._rng.choice(self._registry.retain), self._rng.choice(self._attributes)
        return self._asked(self._rng.choice(request_questions(attribute)), person), answer_of(person, attribute)

    def _about_forgotten(self) -> Turn:
        return self._question_about(self._rng.choice(self._registry.forget)), self._rng.choice(REFUSALS)

    def _small_talk(self) -> Turn:
        exchange = self._rng.choice(self._exchanges)
        return self._rng.choice(exchange.training), exchange.answer

    def _question_about(self, person: Person) -> str:
        return self._asked(self._rng.choice(request_questions(self._rng.choice(self._attributes))), person)

    def _asked(self, question: str, person: Person) -> str:
        return self._varied(question.format(**person.facts()))

    def _varied(self, text: str) -> str:
        closing = self._rng.choice(CLOSINGS) if self._rng.random() < CLOSED else ""
        return casual(text, self._rng) + closing
