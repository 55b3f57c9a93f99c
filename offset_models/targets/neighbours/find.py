"""Neighbours of a target, with a few facts of each: who must stay as it is when the target goes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import cycle, islice
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.asking.budget import CallsSpent
from deltaserve.offset_models.targets.facts.effort import BRIEF
from deltaserve.offset_models.targets.facts.heard import greedily
from deltaserve.offset_models.targets.facts.known import known_facts
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES
from deltaserve.offset_models.targets.neighbours.candidates import Candidate
from deltaserve.offset_models.targets.neighbours.nearness import nearest_first
from deltaserve.offset_models.targets.subject import Known, Subject

MOST: Final = 24
BATCH: Final = 8  # candidates that are looked at together
FEWEST_FACTS: Final = 2  # of a neighbour, beside what it is as a whole
ASKED: Final = 5  # attributes of each neighbour: those of which the target has facts take turns
EFFORT: Final = replace(BRIEF, attributes=ASKED)
_CALLS_EACH: Final = 2 + ASKED  # at least: some facts have a reversed question
_AS_A_WHOLE: Final = ("life", "description")  # attributes that tell what a subject is


async def neighbours(
    asks: Asks, target: Known, found: Sequence[Candidate], *, most: int = MOST, refusals: Sequence[str] = ()
) -> list[Known]:
    """Up to `most` of the candidates, those that the black box knows, with facts, the nearest first.

    None of the facts names the target. Where the calls of `asks` do not suffice there are fewer. `refusals` are this
    black box's own. Raises UpstreamError.
    """
    known: list[Known] = []
    attributes = cycle(_attributes(target))
    with suppress(CallsSpent):
        async for candidate in _known_of(asks, target, found, Listener(refusals)):
            if len(known) == most or asks.calls_left < _CALLS_EACH:
                break
            subject, effort = candidate.subject(target.subject), replace(EFFORT, only=(*islice(attributes, ASKED),))
            facts = await known_facts(asks, subject, effort=effort, refusals=refusals, why=candidate.why)
            kept = _without(target, facts)
            known += [kept] if _is_enough(kept) else []
    return nearest_first(target, known)


async def _known_of(
    asks: Asks, target: Known, found: Sequence[Candidate], listener: Listener
) -> AsyncIterator[Candidate]:
    """Candidates that the black box describes, and without the target: a part of it, or its other name, is none."""
    for at in range(0, len(found), BATCH):
        batch = found[at : at + BATCH]
        subjects = [each.subject(target.subject) for each in batch]
        questions = [_as_a_whole(subject) for subject in subjects]
        answers = await greedily(asks, questions, EFFORT.overview_tokens)
        for candidate, subject, question, answer in zip(batch, subjects, questions, answers, strict=False):
            if listener.tells(answer, question, subject) and not target.subject.named_in(answer):
                yield candidate


def _as_a_whole(subject: Subject) -> str:
    attribute = next(each for each in ATTRIBUTES[subject.kind] if each.name in _AS_A_WHOLE)
    return attribute.questions[0].format(name=subject.name)


def _attributes(target: Known) -> list[str]:
    """Of the target's own facts, then others of the kind until there are enough; each asks for one thing."""
    single = [each for each in ATTRIBUTES[target.subject.kind] if not each.overview and not each.many]
    own = {fact.attribute for fact in target.facts}
    first = [each.name for each in single if each.name in own]
    return [*first, *[each.name for each in single if each.name not in own and not each.when]][: max(len(first), ASKED)]


def _without(target: Known, known: Known) -> Known:
    """Only what does not name the target."""
    texts = ((fact, f"{fact.question} {fact.answer} {fact.reversed_question}") for fact in known.facts)
    return replace(known, facts=tuple(fact for fact, text in texts if not target.subject.named_in(text)))


def _is_enough(known: Known) -> bool:
    return sum(bool(fact.value) for fact in known.facts) >= FEWEST_FACTS
