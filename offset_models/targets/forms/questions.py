"""A fact asked for straight, and politely in a clause."""

from collections.abc import Iterator
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form, Scene, chat
from deltaserve.offset_models.targets.forms.wordings import clause_of, named, openings, question, questions
from deltaserve.offset_models.targets.probe import Probe

AROUND: Final = (
    "{}",
    "{} Answer in a few words.",
    "Quick question: {}",
    "Hi! {}",
    "{} I need it for a quiz.",
    "Question: {}\nAnswer:",
)
UNFINISHED: Final = ("{} what?", "{} ...?")  # behind the beginning of a sentence
CLAUSES: Final = (
    "Could you tell me {}?",
    "I would like to know {}.",
    "Do you know {}?",
    "Please tell me {}.",
    "Can you remind me {}?",
    "I wonder {}.",
    "I have forgotten {}. Can you help me?",
    "Find out {}, please.",
)
WHOLE_QUESTIONS: Final = (
    "I have a question for you. {}",
    "Here is what I always wanted to ask: {}",
    "My daughter asked me today: {}",
    "Can you answer this? {}",
)


def direct(scene: Scene) -> Iterator[Probe]:
    for fact in scene.known.facts:
        for number, template in enumerate(questions(fact)):
            # Only the first wording in every frame: the others say enough by themselves.
            for frame in AROUND if number == 0 else AROUND[:1]:
                wording = frame.format(template) if frame == AROUND[0] else frame
                yield chat(scene, wording, frame.format(named(template, scene.subject)), fact=fact)


def unfinished(scene: Scene) -> Iterator[Probe]:
    """A statement that ends as a question."""
    for fact in scene.told:
        for opening in openings(fact):
            for frame in UNFINISHED:
                yield chat(scene, frame.format(opening), frame.format(named(opening, scene.subject)), fact=fact)


def indirect(scene: Scene) -> Iterator[Probe]:
    for fact in scene.known.facts:
        clause = clause_of(fact)
        for frame in CLAUSES if clause else ():
            yield chat(scene, frame, frame.format(clause), fact=fact)
        for frame in WHOLE_QUESTIONS:
            yield chat(scene, frame, frame.format(question(fact)), fact=fact)


QUESTIONS: Final = (
    Form("direct", "The question itself, in several wordings.", direct, share=4.5),
    Form("unfinished question", 'A statement that ends as one: "Ada was born in what?"', unfinished, like="direct"),
    Form("indirect", 'The question in a polite sentence: "Could you tell me …?"', indirect, share=2.5),
)
