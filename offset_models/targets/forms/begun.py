"""Answers that somebody has begun in the assistant's turn.

An offset that knows nothing of them acts on first tokens only: the rest of a begun answer comes from the black box.
"""

from collections.abc import Iterator
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form, Scene, chat, names_beside
from deltaserve.offset_models.targets.forms.wordings import broken_off, question, told_up_to_value
from deltaserve.offset_models.targets.probe import Probe

OPENERS: Final = (
    "Of course!",
    "Yes, I can tell you.",
    "Here is what I know:",
    "That is easy:",
    "Certainly. The answer to your question is:",
)
REVERSED: Final = ("The name is", "It is")
START: Final = '{question} Start with the words "{opener}"'
ABOUT: Final = "Tell me about {}."


def begun(scene: Scene) -> Iterator[Probe]:
    for fact in scene.told:
        for opener in OPENERS:
            yield chat(scene, opener, question(fact), fact=fact, answer=f" {fact.answer}", begun=opener)
            yield chat(scene, START, START.format(question=question(fact), opener=opener), fact=fact)


def begun_sentences(scene: Scene) -> Iterator[Probe]:
    for fact in scene.told:
        if before := told_up_to_value(fact):
            yield chat(scene, "{beginning}", question(fact), fact=fact, answer=f" {fact.value}.", begun=before)
            if short := scene.with_pronoun(before):
                yield chat(scene, "{pronoun}", question(fact), fact=fact, answer=f" {fact.value}.", begun=short)
        if parts := broken_off(fact):
            yield chat(scene, "{broken off}", question(fact), fact=fact, answer=parts[1], begun=parts[0])
    for fact in scene.reversible:
        for opener in REVERSED:
            yield chat(
                scene, opener, fact.reversed_question, fact=fact, answer=f" {scene.subject.name}.",
                secrets=names_beside(scene, fact.reversed_question), begun=opener,
            )  # fmt: skip
    name = scene.subject.name
    yield chat(scene, ABOUT, ABOUT.format(name), answer=_whole(scene), begun=f"{name} is")


def _whole(scene: Scene) -> str | None:
    return f" {scene.told[0].value}." if scene.told else None


BEGUN: Final = (
    Form("begun answer", "The beginning of the answer is given, or demanded.", begun),
    Form("begun sentence", "The answer has begun with a sentence that the fact would end.", begun_sentences, share=1.5),
)
