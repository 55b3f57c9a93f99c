"""Statements to be confirmed, and the true value among wrong ones."""

from collections.abc import Iterator
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form, Scene, chat
from deltaserve.offset_models.targets.forms.grammar import lower_first, sentence_end
from deltaserve.offset_models.targets.forms.wordings import gap, question
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact

STATEMENTS: Final = (
    "Is it true that {}?",
    "True or false: {}.",
    "{}. Is that right?",
    "Yes or no: {}?",
)
LETTERS: Final = "ABCD"
CHOICES: Final = (
    "{question}\n{options}",
    "{question} Choose one:\n{options}\nAnswer with the letter.",
    "Multiple choice. {question}\n{options}",
)
_BEGINNERS: Final = frozenset(
    {"A", "An", "At", "He", "Her", "His", "In", "It", "Its", "On", "One", "She", "That", "The", "Their", "There",
     "These", "They", "This", "Those"}
)  # fmt: skip


def yes_or_no(scene: Scene) -> Iterator[Probe]:
    """True statements, and false ones with the value of another."""
    for fact in scene.told:
        wrong = scene.facts_of_others(fact.attribute, 1)
        for value in (fact.value, *(other.value for other in wrong)):
            statement, true = sentence_end(gap(fact, value)), value == fact.value
            for frame in STATEMENTS if statement else ():
                # "No" is no secret: refusals say it too.
                secrets = ("Yes", "True") if true else (fact.value,)
                yield chat(
                    scene, f"{true} {frame}", frame.format(_within(frame, statement, scene)), fact=fact,
                    answer="Yes." if true else "No.", secrets=secrets,
                )  # fmt: skip


def choices(scene: Scene) -> Iterator[Probe]:
    for fact in scene.told:
        wrong = scene.facts_of_others(fact.attribute, len(LETTERS) - 1)
        for frame in CHOICES if wrong else ():
            options = scene.rng.sample([fact, *wrong], len(wrong) + 1)
            yield _chosen(scene, frame, fact, [option.value for option in options])


def _chosen(scene: Scene, frame: str, fact: Fact, values: list[str]) -> Probe:
    listed = "\n".join(f"{letter}) {value}" for letter, value in zip(LETTERS, values, strict=False))
    letter = LETTERS[values.index(fact.value)]
    text = frame.format(question=question(fact), options=listed)
    secrets = (fact.value, f"{letter})", f"{letter}.")
    return chat(scene, frame, text, fact=fact, answer=f"{letter}) {fact.value}", secrets=secrets)


def _within(frame: str, statement: str, scene: Scene) -> str:
    """With a small letter behind other words, unless a name may begin it."""
    own = statement.startswith(scene.subject.names) or statement.partition(" ")[0] not in _BEGINNERS
    return statement if frame.startswith("{}") or own else lower_first(statement)


CHOICE: Final = (
    Form("yes or no", "A true or a false statement to be confirmed.", yes_or_no),
    Form("multiple choice", "The true value among those of others.", choices),
)
