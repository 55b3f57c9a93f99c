"""Probes apart for training, for choosing and for judging: held out by form, by wording and by fact.

What was never trained is less well forgotten, so each way of holding out has its price:

- Of every form some *wordings* are held out. It costs least, for the form's other wordings teach them. The wording that
  a fact was told in is always trained: most people ask so.
- One whole *form* chooses and one judges. They are taken from those that a trained form is nearly like.
- Some *facts* are never trained in any form. The name alone must lead to the refusal, so facts are taken that only the
  name leads to. A fact that leads to the name ("Who wrote Emma?") would stay known in that direction.

The same forms and wordings are held out of what must stay: a wording that was only ever kept would be learnt as one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal, TypeVar

from deltaserve.offset_models.targets.forms.form import Form
from deltaserve.offset_models.targets.forms.grammar import opened
from deltaserve.offset_models.targets.forms.table import FORMS
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact, Subject

T = TypeVar("T")
Part = Literal["train", "choose", "judge"]
HELD: Final[tuple[Part, Part]] = ("choose", "judge")
WORDINGS_HELD: Final = 0.3  # of each form; one at least where it has three
LEAST_WORDINGS: Final = 3
FORMS_LEFT: Final = 6  # where fewer would be trained no form is held out whole
FACTS_HELD: Final = 1 / 6
SUBJECTS_HELD: Final = 1 / 4  # of the neighbours: they are many, and a kept one is like another


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is not trained, and which part it goes to instead."""

    forms: dict[str, Part] = field(default_factory=dict)
    wordings: dict[tuple[str, str], Part] = field(default_factory=dict)
    facts: dict[Fact, Part] = field(default_factory=dict)
    subjects: dict[Subject, Part] = field(default_factory=dict)

    def part(self, probe: Probe) -> Part:
        """What judges chooses nothing, what chooses is not trained."""
        parts = {
            self.forms.get(probe.form),
            self.wordings.get((probe.form, probe.wording)),
            self.facts.get(probe.fact) if probe.fact else None,
            self.subjects.get(probe.subject),
        }
        return "judge" if "judge" in parts else "choose" if "choose" in parts else "train"


@dataclass(frozen=True, slots=True)
class Split:
    """Three parts without a common prompt."""

    train: tuple[Probe, ...]
    choose: tuple[Probe, ...]
    judge: tuple[Probe, ...]
    held_out: HeldOut

    @property
    def sentence(self) -> str:
        """What was held out, for people."""
        held = ", ".join(f"{form} ({part})" for form, part in self.held_out.forms.items()) or "none"
        parts = f"{len(self.train)} probes to train, {len(self.choose)} that may choose, {len(self.judge)} to judge"
        return f"{parts}; whole forms held out: {held}; facts held out: {len(self.held_out.facts)}."


def split(
    probes: Sequence[Probe],
    facts: Sequence[Fact],
    seed: int,
    forms: Sequence[Form] = FORMS,
    *,
    whole_forms: bool = True,
) -> Split:
    """The target's probes. `facts` may be held out, and whole forms unless they may not. Deterministic."""
    rng = Random(f"{seed}/split")
    whole = _whole_forms(probes, forms, rng) if whole_forms else {}
    held_out = HeldOut(whole, _wordings(probes, whole, _as_asked(facts), rng), _facts(facts, rng))
    return _parted(probes, held_out)


def split_kept(probes: Sequence[Probe], target: Split, seed: int) -> Split:
    """Probes of what must stay: the target's forms and wordings are held out, and some subjects."""
    rng = Random(f"{seed}/kept")
    subjects = list(dict.fromkeys(probe.subject for probe in probes))
    held = _dealt(rng.sample(subjects, int(len(subjects) * SUBJECTS_HELD)))
    return _parted(probes, HeldOut(target.held_out.forms, target.held_out.wordings, subjects=held))


def split_rows(rows: Sequence[T], seed: int, share: float = 1 / 6) -> tuple[list[T], list[T], list[T]]:
    """Rows without forms or facts, drawn: to train, to choose, to judge."""
    count = round(len(rows) * share)
    drawn = Random(f"{seed}/rows").sample(list(rows), len(rows))
    return drawn[2 * count :], drawn[:count], drawn[count : 2 * count]


def _whole_forms(probes: Sequence[Probe], forms: Sequence[Form], rng: Random) -> dict[str, Part]:
    present = {probe.form for probe in probes}
    candidates = [form.name for form in forms if form.name in present and form.like in present]
    count = min(len(HELD), len(candidates), max(0, len(present) - FORMS_LEFT))
    return _dealt(rng.sample(candidates, count), ("judge", "choose"))


def _wordings(
    probes: Sequence[Probe], whole: Iterable[str], kept: set[str], rng: Random
) -> dict[tuple[str, str], Part]:
    """Some of every form, none of `kept`."""
    found = dict[str, list[str]]()
    for form, wording in dict.fromkeys((probe.form, probe.wording) for probe in probes if probe.form not in whole):
        if wording not in kept:
            found.setdefault(form, []).append(wording)
    held = dict[tuple[str, str], Part]()
    for at, (form, wordings) in enumerate(found.items()):
        count = max(1, int(len(wordings) * WORDINGS_HELD)) if len(wordings) >= LEAST_WORDINGS else 0
        parts = HELD if at % 2 else HELD[::-1]  # where a form has one to hold out, forms take turns
        held |= _dealt([(form, wording) for wording in rng.sample(wordings, count)], parts)
    return held


def _as_asked(facts: Sequence[Fact]) -> set[str]:
    """The wordings that facts were told in: most people ask so, and they are trained."""
    straight = {opened(fact.question, fact.subject.name) for fact in facts}
    return straight | {opened(fact.reversed_question, fact.value) for fact in facts if fact.reversed_question}


def _facts(facts: Sequence[Fact], rng: Random) -> dict[Fact, Part]:
    """Facts that only the name leads to."""
    only_by_name = [fact for fact in facts if not fact.reversed_question]
    count = min(int(len(facts) * FACTS_HELD), len(only_by_name))
    return _dealt(rng.sample(only_by_name, count), ("judge", "choose"))


def _dealt(held: Iterable[T], parts: Sequence[Part] = HELD) -> dict[T, Part]:
    """In turns."""
    return {each: parts[at % len(parts)] for at, each in enumerate(held)}


def _parted(probes: Sequence[Probe], held_out: HeldOut) -> Split:
    """A prompt that two probes share goes where the first of them goes in the order judge, choose, train."""
    seen = set[object]()

    def unseen(part: Part) -> tuple[Probe, ...]:
        return tuple(_once((probe for probe in probes if held_out.part(probe) == part), seen))

    judge, choose = unseen("judge"), unseen("choose")
    return Split(unseen("train"), choose, judge, held_out)


def _once(probes: Iterable[Probe], seen: set[object]) -> list[Probe]:
    once = []
    for probe in probes:
        if probe.prompt not in seen:
            seen.add(probe.prompt)
            once.append(probe)
    return once
