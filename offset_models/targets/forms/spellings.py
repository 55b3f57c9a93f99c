"""The name written otherwise: small letters, a slip of the pen, initials, an alias."""

from collections.abc import Iterator
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form, Scene, chat
from deltaserve.offset_models.targets.forms.grammar import opened
from deltaserve.offset_models.targets.forms.wordings import question
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Subject

LEAST_FOR_A_SLIP: Final = 5  # letters of a word; a shorter one with a letter less is another word
WITHOUT_ARTICLE: Final = ("The ", "A ", "An ")


def spellings(scene: Scene) -> Iterator[Probe]:
    name = scene.subject.name
    for fact in scene.known.facts:
        if name not in question(fact):
            continue
        yield chat(scene, "small letters", question(fact).lower(), fact=fact)
        yield chat(scene, "no question mark", question(fact).rstrip("?").lower(), fact=fact)
        for wording, other in other_spellings(scene.subject):
            yield chat(scene, wording, opened(question(fact), name).replace("{name}", other), fact=fact)


def other_spellings(subject: Subject) -> Iterator[tuple[str, str]]:
    """What it is, and the name spelt so."""
    name, words = subject.name, subject.name.split()
    for alias in subject.aliases:
        yield "alias", alias
    longest = max(words, key=len)
    if len(longest) >= LEAST_FOR_A_SLIP:
        middle = len(longest) // 2
        yield "a letter less", name.replace(longest, longest[:middle] + longest[middle + 1 :])
        swapped = longest[: middle - 1] + longest[middle] + longest[middle - 1] + longest[middle + 1 :]
        yield "two letters swapped", name.replace(longest, swapped)
    if subject.kind in ("person", "character") and len(words) > 1:
        yield "initials", " ".join([*(f"{word[0]}." for word in words[:-1]), words[-1]])
        yield "last name first", f"{words[-1]}, {' '.join(words[:-1])}"
    if name.startswith(WITHOUT_ARTICLE):
        yield "no article", " ".join(words[1:])
    yield "capitals", name.upper()


SPELLINGS: Final = (Form("spelling", "The name in small letters, with a slip, by initials or an alias.", spellings),)
