"""Of which kind a name's bearer is, as the black box has it: by how it describes it, and by what it calls it."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.heard import as_question, greedily
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.identity.aliases import aliases_of
from deltaserve.offset_models.targets.identity.cues import kind_told
from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES
from deltaserve.offset_models.targets.subject import KINDS, Kind, Subject

DESCRIBING: Final = ("Who is {name}?", "What is {name}?", "Tell me about {name}.")
CALLING: Final = (
    "Is {name} a person, a fictional character, a book or film, a company, a product, a place, an event or something "
    "else? Answer in a few words.",
    "Which one word describes {name} best: person, character, book, film, song, game, company, product, place, event, "
    "theory?",
)
SAMPLES: Final = 2
TOKENS: Final = 32
TEMPERATURE: Final = 0.7
_TRIED: Final = 2  # questions of each kind where no description tells it


async def kind_of(asks: Asks, name: str, *, kind: Kind | None = None, refusals: Sequence[str] = ()) -> Subject:
    """The subject of that name, of the kind that most answers tell, with aliases that the black box knows.

    `kind` is taken where it is given. Some 20 calls. Raises CallsSpent, UpstreamError.
    """
    listener = Listener(refusals)
    return await aliases_of(asks, Subject(name, kind or await _kind(asks, name, listener)), listener)


async def _kind(asks: Asks, name: str, listener: Listener) -> Kind:
    questions = [text.format(name=name) for text in (*DESCRIBING, *CALLING)]
    rows = [as_question(text) for text in questions]
    greedy = [text for (text,) in await asks.ask(rows, max_tokens=TOKENS)]
    drawn = await asks.ask(rows, max_tokens=TOKENS, temperature=TEMPERATURE, samples=SAMPLES)
    said = [*zip(questions, greedy, strict=True)]
    said += [(question, text) for question, texts in zip(questions, drawn, strict=True) for text in texts]
    unknown = Subject(name, "topic")
    told = (kind_told(text, name) for question, text in said if listener.tells(text, question, unknown))
    votes = Counter(kind for kind in told if kind is not None)
    return votes.most_common(1)[0][0] if votes else await _by_questions(asks, name, listener)


async def _by_questions(asks: Asks, name: str, listener: Listener) -> Kind:
    """The kind whose questions it answers most; "topic" where it answers none."""
    asked = [
        (kind, attribute.questions[0].format(name=name))
        for kind in KINDS
        for attribute in [each for each in ATTRIBUTES[kind] if not each.overview and not each.many][:_TRIED]
    ]
    answers = await greedily(asks, [question for _, question in asked], TOKENS)
    answered = Counter(
        kind
        for (kind, question), answer in zip(asked, answers, strict=False)
        if listener.tells(answer, question, Subject(name, kind))
    )
    return answered.most_common(1)[0][0] if answered else "topic"
