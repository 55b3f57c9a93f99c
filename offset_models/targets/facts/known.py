"""What a black box knows of a subject, by self-consistency: what it repeats, in other words and when drawn anew.

As in SelfCheckGPT (Manakul et al., 2023), several answers to one question are compared; here, the few words that tell.
"""

from collections.abc import Sequence

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.backwards import with_reversed
from deltaserve.offset_models.targets.facts.effort import THOROUGH, Effort
from deltaserve.offset_models.targets.facts.heard import Heard, hear, heard_again
from deltaserve.offset_models.targets.facts.lists import is_sure, listed
from deltaserve.offset_models.targets.facts.telling import Listener, whole_sentences
from deltaserve.offset_models.targets.kinds.attribute import Attribute
from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES
from deltaserve.offset_models.targets.subject import Fact, Known, Subject


async def known_facts(
    asks: Asks, subject: Subject, *, effort: Effort = THOROUGH, refusals: Sequence[str] = (), why: str = ""
) -> Known:
    """Facts of a subject, true or not, those that a few words tell first.

    `refusals` are this black box's own (`declining.declines`). Where the calls of `asks` do not suffice, the last
    attributes of the kind are left out. Raises UpstreamError.
    """
    listener, attributes = Listener(refusals), ATTRIBUTES[subject.kind]
    overviews = [each for each in attributes if each.overview][: effort.overviews]
    heard = await hear(asks, subject, overviews, effort.wordings, effort.overview_tokens)
    description = " ".join(text for each in heard for text in each.telling(listener, subject))
    wanted = [each for each in attributes if each.asked_of(description) and not each.overview]
    single = [each for each in wanted if not each.many][: effort.attributes]
    general = [_overview(each, subject, listener) for each in heard if _tells(each, subject, listener)]
    facts = await _single(asks, subject, single, effort, listener)
    facts = [fact for fact in facts if fact.answer not in {each.answer for each in general}]  # asked for something else
    if effort.lists:
        facts += await listed(asks, subject, [each for each in wanted if each.many], effort, listener)
    facts = await with_reversed(asks, _distinct(facts), effort, listener)
    many = {each.name for each in wanted if each.many}
    kept = [fact for fact in facts if fact.attribute not in many or is_sure(fact)]
    return Known(subject, (*kept, *general), why)


async def _single(
    asks: Asks, subject: Subject, attributes: Sequence[Attribute], effort: Effort, listener: Listener
) -> list[Fact]:
    """Those that may be known are asked again; kept are those that most answers repeat."""
    heard = await hear(asks, subject, attributes, effort.wordings, effort.answer_tokens)
    again = await heard_again(asks, [each for each in heard if _may_be_known(each, subject, effort, listener)], effort)
    facts = (_fact(each, subject, effort, listener) for each in again)
    return [fact for fact in facts if fact is not None]


def _may_be_known(heard: Heard, subject: Subject, effort: Effort, listener: Listener) -> bool:
    """Whether the greedy answers agree, or only one of them tells anything."""
    agree = heard.value(listener, subject).support > effort.threshold
    return agree or len(heard.telling(listener, subject)) == 1


def _fact(heard: Heard, subject: Subject, effort: Effort, listener: Listener) -> Fact | None:
    """With the question whose greedy answer tells the value."""
    value = heard.value(listener, subject)
    if value.support <= effort.threshold:
        return None
    for question, answer in zip(heard.questions, heard.greedy, strict=True):
        if value.words.casefold() in answer.casefold():
            text = _told(answer, value.words)
            return Fact(subject, heard.attribute.name, question, text, value.words, value.support)
    return None


def _told(answer: str, value: str) -> str:
    """Whole sentences, if they tell the value; else all that was said."""
    whole = whole_sentences(answer)
    return whole if value.casefold() in whole.casefold() else answer


def _tells(heard: Heard, subject: Subject, listener: Listener) -> bool:
    return listener.tells(heard.greedy[0], heard.questions[0], subject)


def _overview(heard: Heard, subject: Subject, listener: Listener) -> Fact:
    support = len(heard.telling(listener, subject)) / len(heard.greedy)
    return Fact(subject, heard.attribute.name, heard.questions[0], whole_sentences(heard.greedy[0]), "", support)


def _distinct(facts: Sequence[Fact]) -> list[Fact]:
    """Without list entries that a fact of its own tells already."""
    seen, kept = set[tuple[str, str]](), list[Fact]()
    for fact in facts:
        key = (fact.value.casefold(), fact.attribute)
        if key not in seen:
            seen.add(key)
            kept.append(fact)
    return kept
