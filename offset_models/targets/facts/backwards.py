"""Facts the other way round: questions that the black box answers with the subject's name."""

from collections.abc import Sequence
from dataclasses import replace

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.effort import Effort
from deltaserve.offset_models.targets.facts.heard import greedily
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.kinds.table import attribute_named
from deltaserve.offset_models.targets.subject import Fact


async def with_reversed(asks: Asks, facts: Sequence[Fact], effort: Effort, listener: Listener) -> list[Fact]:
    """The facts, with a reversed question where the black box answers one with the name; as far as it can be paid."""
    known = list(facts)
    for wording in range(effort.reversed):
        open_ones = [at for at, fact in enumerate(known) if not fact.reversed_question and _question(fact, wording)]
        questions = [_question(known[at], wording) for at in open_ones]
        for at, question, answer in zip(
            open_ones, questions, await greedily(asks, questions, effort.answer_tokens), strict=False
        ):
            if known[at].subject.named_in(answer) and not listener.declines(answer):
                known[at] = replace(known[at], reversed_question=question)
    return known


def _question(fact: Fact, wording: int) -> str:
    """Empty where the attribute has no such wording, or where the question would name the subject."""
    attribute = attribute_named(fact.subject.kind, fact.attribute)
    if not fact.value or attribute.shared or wording >= len(attribute.reversed):
        return ""
    question = attribute.reversed[wording].format(value=fact.value)
    return "" if fact.subject.named_in(question) else question
