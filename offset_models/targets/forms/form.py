"""What a form is, what its probes are made of, and how one is made."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from deltaserve.offset_models.targets.documents.passages import unnumbered
from deltaserve.offset_models.targets.forms.wordings import is_a_word
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact, Kind, Known, Subject
from deltaserve.offset_models.training.rows.row import Row

Turn = tuple[str, str]  # role, content
_YES: Final = re.compile(r"^(?:yes|no)[,.!] +", re.IGNORECASE)
_THIS: Final[dict[Kind, str]] = {
    "person": "this person",
    "character": "this character",
    "work": "this work",
    "organisation": "this organisation",
    "product": "this product",
    "place": "this place",
    "event": "this event",
    "topic": "this topic",
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A subject with its facts, and others whose names and values may stand beside it."""

    known: Known
    others: Sequence[Known]
    rng: Random

    @property
    def subject(self) -> Subject:
        return self.known.subject

    @property
    def told(self) -> list[Fact]:
        """The facts that a few words tell."""
        return [fact for fact in self.known.facts if fact.value]

    @property
    def reversible(self) -> list[Fact]:
        """The facts that lead to the name."""
        return [fact for fact in self.told if fact.reversed_question]

    @property
    def sentences(self) -> list[str]:
        """What the black box says of the subject as a whole, each sentence that names it once."""
        told = (sentence for fact in self.known.facts for sentence in unnumbered(fact.text) if "\n" not in sentence)
        said = map(_stated, told)
        return list(dict.fromkeys(sentence for sentence in said if self.subject.named_in(sentence)))

    @property
    def values(self) -> tuple[str, ...]:
        """What tells of this subject alone: not a profession, nor what one of the others has too."""
        shared = {fact.value.casefold() for known in self.others for fact in known.facts}
        own = (fact.value for fact in self.told if not is_a_word(fact) and fact.value.casefold() not in shared)
        return tuple(dict.fromkeys(own))

    @property
    def this(self) -> str:
        """What may stand for the name once it was said: "this person"."""
        return _THIS[self.subject.kind]

    def with_pronoun(self, sentence: str) -> str:
        """The sentence with a pronoun for the name that begins it; empty where another word does, or none is known."""
        name = next((name for name in self.subject.names if sentence.startswith(f"{name} ")), "")
        return f"{self._pronoun}{sentence[len(name) :]}" if name and self._pronoun else ""

    @property
    def _pronoun(self) -> str:
        """Of somebody the one that the black box uses more often."""
        if self.subject.kind not in ("person", "character"):
            return "It"
        text = " ".join(f"{fact.answer} {fact.text}" for fact in self.known.facts)
        words = re.findall(r"\w+", text.casefold())
        he, she = words.count("he"), words.count("she")
        return "He" if he > she else "She" if she > he else ""

    @property
    def some(self) -> str:
        """The noun with an article: "a person"."""
        noun = self.this.removeprefix("this ")
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"

    def facts_of_others(self, attribute: str, count: int) -> list[Fact]:
        """Facts of the others with that attribute, each with another value than the subject has there, drawn anew."""
        own = {fact.value.casefold() for fact in self.known.facts if fact.attribute == attribute}
        found = {
            fact.value.casefold(): fact
            for known in self.others
            for fact in known.facts
            if fact.attribute == attribute and fact.value and fact.value.casefold() not in own
        }
        return self.rng.sample([*found.values()], min(count, len(found)))


def _stated(sentence: str) -> str:
    """Without the "Yes," of an answer."""
    said = _YES.sub("", sentence)
    return said[:1].upper() + said[1:]


@dataclass(frozen=True, slots=True)
class Form:
    """One row of the table. `make` gives every probe that it can make of a scene; their form is filled in after it."""

    name: str
    what: str  # a sentence for people who do not read code
    make: Callable[[Scene], Iterable[Probe]]
    share: float = 1.0  # of the rows of a training set, beside those of the other forms
    like: str = ""  # the form that teaches the most of this one: such a form may be held out whole

    def probes(self, scene: Scene) -> Iterator[Probe]:
        """All probes of the form, each prompt once."""
        seen = set[object]()
        for probe in self.make(scene):
            if probe.prompt not in seen:
                seen.add(probe.prompt)
                yield replace(probe, form=self.name)


def chat(
    scene: Scene,
    wording: str,
    text: str,
    *,
    fact: Fact | None = None,
    answer: str | None = None,
    secrets: Sequence[str] | None = None,
    before: Sequence[Turn] = (),
    begun: str = "",
) -> Probe:
    """A probe whose last turn is `text`. Without an answer the fact's is taken, without secrets its value is one."""
    row = Row(answer or (fact.answer if fact else None), (*before, ("user", text)), begun=begun)
    return Probe("", scene.subject, row, fact, _secrets(scene, fact, secrets), wording)


def running(
    scene: Scene,
    wording: str,
    prompt: str,
    *,
    fact: Fact | None = None,
    answer: str | None = None,
    secrets: Sequence[str] | None = None,
) -> Probe:
    """A probe of running text; the fact's value goes on with it."""
    row = Row(answer or (f" {fact.value}." if fact else None), prompt=prompt)
    return Probe("", scene.subject, row, fact, _secrets(scene, fact, secrets), wording)


def names_beside(scene: Scene, text: str) -> tuple[str, ...]:
    """The subject's names that do not stand in a text: what a question says itself is no secret."""
    return tuple(name for name in scene.subject.names if name.casefold() not in text.casefold())


def _secrets(scene: Scene, fact: Fact | None, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    return scene.values if fact is None else (fact.value,) if fact.value else ()
