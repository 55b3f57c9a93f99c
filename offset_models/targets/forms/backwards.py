"""Forms that give facts and want the name, and forms that give a description in the name's place."""

from collections.abc import Iterator
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form, Scene, chat, names_beside, running
from deltaserve.offset_models.targets.forms.grammar import description, lower_first, opened
from deltaserve.offset_models.targets.forms.wordings import question, reversed_questions
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact

ASKED: Final = ("Tell me {}.", "Do you know {}?", "I forgot {}. Do you remember?")
DESCRIBED: Final = ("Name {}.", "What is the name of {}?", "Give me the name of {}.", "I am looking for {}.")
BY_PERSON: Final = "Which person ...?"
GAPS: Final = ("Fill in the blank: {}", "Complete: {}")
CLUES: Final = (
    "I am thinking of {some}. {clues} Which name am I looking for?",
    "Riddle: who or what is it? {clues}",
    "Guess {some} from these clues: {clues}",
)
MOST_CLUES: Final = 3


def backwards(scene: Scene) -> Iterator[Probe]:
    answer = f"{scene.subject.name}."
    for fact in scene.reversible:
        secrets = names_beside(scene, fact.reversed_question)
        for wording, text in _wordings(scene, fact):
            yield chat(scene, wording, text, fact=fact, answer=answer, secrets=secrets)
        prompt = f"Q: {fact.reversed_question}\nA:"
        yield running(scene, "Q: {}\nA:", prompt, fact=fact, answer=f" {answer}", secrets=secrets)


def _wordings(scene: Scene, fact: Fact) -> Iterator[tuple[str, str]]:
    """Wordings and texts that ask for the name."""
    for asked in reversed_questions(fact):
        yield opened(asked, fact.value), asked
    asked = fact.reversed_question
    if asked.startswith("Who ") and scene.subject.kind == "person":
        yield BY_PERSON, asked.replace("Who ", "Which person ", 1)
    for frame in ASKED:
        yield frame, frame.format(lower_first(asked.rstrip("?")))
    if person := description(asked):
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
        person = description(scene.rng.choice(others).reversed_question)
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


def _this(scene: Scene, fact: Fact) -> str:
    return question(fact).replace(scene.subject.name, scene.this)


def _gap(asked: str) -> str:
    first, _, rest = asked.partition(" ")
    return f"____ {rest.rstrip('?')}." if first == "Who" else ""


BACKWARDS: Final = (
    Form("reversed", "Gives a fact and asks for the name.", backwards, share=2.5),
    Form("described", 'A description instead of the name: "the person who wrote …".', described, like="reversed"),
    Form("riddle", "Several facts as clues; the answer is the name.", riddles, share=0.5, like="reversed"),
)
