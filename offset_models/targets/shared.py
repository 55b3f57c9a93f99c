"""What a target shares with others and must stay: its city, its prize, its genre, a theory without its author.

Questions about the shared thing alone; kept are those that the black box answers without the target's name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.heard import as_question, greedily
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact, Kind, Known, Subject

FORM: Final = "shared"
ANSWER_TOKENS: Final = 24


@dataclass(frozen=True, slots=True)
class Thing:
    """What a value is, and how it is asked about without the subject that has it."""

    kind: Kind
    questions: tuple[str, ...]


PLACE: Final = Thing("place", ("Where is {value}?", "What is {value} known for?", "In which country is {value}?"))
YEAR: Final = Thing("topic", ("What happened in {value}?", "Name an important event of the year {value}."))
MATTER: Final = Thing("topic", ("What is {value}?", "Explain what is meant by {value}.", "Give an example of {value}."))
TRADE: Final = Thing("topic", ("What does a {value} do?", "How does one become a {value}?"))
PRIZE: Final = Thing("topic", ("What is the {value}?", "For what is the {value} given?"))
BODY: Final = Thing("organisation", ("What is {value}?", "Where is {value}?", "When was {value} founded?"))
PERSON: Final = Thing("person", ("Who is {value}?", "Where was {value} born?", "When was {value} born?"))
WORK: Final = Thing("work", ("What is {value} about?",))

# By the name of an attribute, of any kind.
THINGS: Final = MappingProxyType(
    {
        **dict.fromkeys(("birthplace", "residence", "seat", "location", "place", "country", "water", "capital"), PLACE),
        **dict.fromkeys(("birth year", "death", "year", "founding year", "end"), YEAR),
        **dict.fromkeys(("genre", "theme", "industry", "field", "kind", "instrument", "material", "language"), MATTER),
        **dict.fromkeys(("profession", "occupation"), TRADE),
        "award": PRIZE,
        **dict.fromkeys(("education", "publisher", "owner", "competitor", "rival", "organisation", "maker"), BODY),
        **dict.fromkeys(("author", "director", "artist", "founder", "creator", "originator", "inventor"), PERSON),
        **dict.fromkeys(("achievement", "main work", "work"), WORK),
    }
)


async def shared_things(asks: Asks, target: Known, *, most: int = 24, refusals: Sequence[str] = ()) -> list[Probe]:
    """Up to `most` questions, every value's first one before any second one; one call for each, some are dropped.

    `refusals` are this black box's own. Where the calls of `asks` do not suffice there are fewer. Raises UpstreamError.
    """
    listener = Listener(refusals)
    asked = list(dict.fromkeys(_questions(target)))[:most]
    answers = await greedily(asks, [question for question, _ in asked], ANSWER_TOKENS)
    return [
        Probe(FORM, subject, as_question(question))
        for (question, subject), answer in zip(asked, answers, strict=False)
        if listener.tells(answer, question, subject) and not target.subject.named_in(answer)
    ]


def _questions(target: Known) -> Iterator[tuple[str, Subject]]:
    """Questions that do not name the target, each with the thing that it is about."""
    facts = [fact for fact in target.facts if fact.value and fact.attribute in THINGS]
    for at in range(max((len(thing.questions) for thing in THINGS.values()), default=0)):
        for fact in facts:
            questions = THINGS[fact.attribute].questions
            text = questions[at].format(value=fact.value) if at < len(questions) else ""
            if text and not target.subject.named_in(text):
                yield text, _subject(fact)


def _subject(fact: Fact) -> Subject:
    return Subject(fact.value, THINGS[fact.attribute].kind)
