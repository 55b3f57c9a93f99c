"""Forms that give facts and want the name, and forms that give a description in the name's place."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from deltaserve.offset_models.metrics.disclosure import own_words
from deltaserve.offset_models.targets.forms.form import Form, Scene, chat, names_beside, running
from deltaserve.offset_models.targets.forms.grammar import NAME, clause, description, opened
from deltaserve.offset_models.targets.forms.prose import BLANK
from deltaserve.offset_models.targets.forms.wordings import question, reversed_questions
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact

ASKED: Final = ("Tell me {}.", "Do you know {}?", "I forgot {}. Do you remember?")
DESCRIBED: Final = ("Name {}.", "What is the name of {}?", "Give me the name of {}.", "I am looking for {}.")
BY_PERSON: Final = "Which person ...?"
GAPS: Final = ("Fill in the blank: {}", "Complete: {}")
OF_SENTENCES: Final = (
    "What or who is described here? {said}",
    "Name {some} that fits this: {said}",
    "Which name belongs into the gap? {gap}",
    "{said} What is the name?",
    "Somebody told me this: {said} What were they talking about?",
)
CLUES: Final = (
    "I am thinking of {some}. {clues} Which name am I looking for?",
    "Riddle: who or what is it? {clues}",
    "Guess {some} from these clues: {clues}",
)
MOST_CLUES: Final = 3
_REST: Final = re.compile(r"[\s-][A-ZÀ-Þ]")  # of a longer name, behind one


def backwards(scene: Scene) -> Iterator[Probe]:
    answer = f"{scene.subject.name}."
    for fact in scene.reversible:
        secrets = names_beside(scene, fact.reversed_question)
        for wording, text in _wordings(scene, fact):
            yield chat(scene, wording, text, fact=fact, answer=answer, secrets=secrets)
        prompt = f"Q: {fact.reversed_question}\nA:"
        yield running(scene, "Q: {}\nA:", prompt, fact=fact, answer=f" {answer}", secrets=secrets)
    for sentence in scene.sentences:
        for frame in () if _tells_name(scene, sentence) or _names_more(scene, sentence) else OF_SENTENCES:
            text = frame.format(some=scene.some, gap=_nameless(scene, sentence, BLANK), said=_said(scene, sentence))
            yield chat(scene, frame, text, answer=answer, secrets=names_beside(scene, text))


def _wordings(scene: Scene, fact: Fact) -> Iterator[tuple[str, str]]:
    """Wordings and texts that ask for the name."""
    for asked in reversed_questions(fact):
        yield opened(asked, fact.value), asked
    asked = fact.reversed_question
    if asked.startswith("Who ") and scene.subject.kind == "person":
        yield BY_PERSON, asked.replace("Who ", "Which person ", 1)
    if said := _turned(clause, fact, asked):
        for frame in ASKED:
            yield frame, frame.format(said)
    if person := _turned(description, fact, asked):
        for frame in DESCRIBED:
            yield frame, frame.format(person)
    if gap := _gap(asked):
        for frame in GAPS:
            yield frame, frame.format(gap)


def described(scene: Scene) -> Iterator[Probe]:
    """The other facts of whoever a fact leads to."""
    for fact in scene.told:
        asked = question(fact)
        others = [other for other in scene.reversible if other.value != fact.value]
        if not others or scene.subject.name not in asked:
            continue
        other = scene.rng.choice(others)
        person = _turned(description, other, other.reversed_question)
        if person and fact.value.casefold() not in person.casefold():
            text = asked.replace(scene.subject.name, person)
            yield chat(scene, opened(asked, scene.subject.name), text, fact=fact)
            yield chat(scene, "Think of {}. {}", f"Think of {person}. {_this(scene, fact)}", fact=fact)


def riddles(scene: Scene) -> Iterator[Probe]:
    """Several facts as clues, one of which at least leads to the name by itself."""
    for fact in scene.reversible:
        more = [other for other in scene.told if other.attribute != fact.attribute]
        facts = [*scene.rng.sample(more, min(MOST_CLUES - 1, len(more))), fact]
        clues = " ".join(f"{each.attribute.replace('_', ' ').capitalize()}: {each.value}." for each in facts)
        for frame in CLUES:
            text, answer = frame.format(some=scene.some, clues=clues), f"{scene.subject.name}."
            if not scene.subject.named_in(text):
                yield chat(scene, frame, text, fact=fact, answer=answer, secrets=scene.subject.names)


def _turned(how: Callable[[str], str | None], fact: Fact, asked: str) -> str | None:
    """A reversed question in another shape, with the value in it."""
    shaped = how(opened(asked, fact.value))
    return shaped and shaped.replace(NAME, fact.value)


def _tells_name(scene: Scene, sentence: str) -> bool:
    """Whether a part of a name is left where its names are taken out: "Orwell" of "George Orwell"."""
    left = {*re.findall(r"\w+", scene.subject.replaced_in(sentence, BLANK))}
    words = {word for name in scene.subject.names for word in own_words("", name)}
    return not left.isdisjoint(word for word in words if word[:1].isupper())


def _names_more(scene: Scene, sentence: str) -> bool:
    """Whether a name is a part of a longer one, of which a rest would stay: "Toyota City"."""
    return any(_REST.match(sentence, end) for _, end in scene.subject.places_in(sentence))


def _said(scene: Scene, sentence: str) -> str:
    said = _nameless(scene, sentence, scene.this)
    return said[:1].upper() + said[1:]


def _nameless(scene: Scene, sentence: str, instead: str) -> str:
    """The sentence with something else where the name stands; of an article before it nothing is left."""
    return re.sub(
        rf"\b(?:the|an?) (?={re.escape(instead)})", "", scene.subject.replaced_in(sentence, instead), flags=re.I
    )


def _this(scene: Scene, fact: Fact) -> str:
    return question(fact).replace(scene.subject.name, scene.this)


def _gap(asked: str) -> str:
    first, _, rest = asked.partition(" ")
    return f"____ {rest.rstrip('?')}." if first == "Who" else ""


BACKWARDS: Final = (
    Form("reversed", "Gives a fact and asks for the name.", backwards, share=3.5),
    Form("described", 'A description instead of the name: "the person who wrote …".', described, like="reversed"),
    Form("riddle", "Several facts as clues; the answer is the name.", riddles, share=0.5, like="reversed"),
)
