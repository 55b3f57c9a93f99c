"""What a black box knows of a subject, by self-consistency: what it repeats, in other words and when drawn anew.

As in SelfCheckGPT (Manakul et al., 2023), several answers to one question are compared; here, the few words that tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.documents.passages import unnumbered
from deltaserve.offset_models.targets.facts.backwards import with_reversed
from deltaserve.offset_models.targets.facts.effort import THOROUGH, Effort
from deltaserve.offset_models.targets.facts.heard import Heard, hear, heard_again
from deltaserve.offset_models.targets.facts.lists import is_sure, listed
from deltaserve.offset_models.targets.facts.telling import Listener, whole_sentences
from deltaserve.offset_models.targets.kinds.attribute import Attribute
from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES, attribute_named
from deltaserve.offset_models.targets.subject import Fact, Known, Subject


async def known_facts(
    asks: Asks, subject: Subject, *, effort: Effort = THOROUGH, refusals: Sequence[str] = (), why: str = ""
) -> Known:
    """Facts of a subject, true or not: first those that a few words tell, then what is said of it as a whole.

    `refusals` are this black box's own (`declining.declines`). Where the calls of `asks` do not suffice, the last
    attributes of the kind are left out. Raises UpstreamError.
    """
    return Known(subject, tuple(await _Interview(asks, subject, effort, Listener(refusals)).facts()), why)


@dataclass(frozen=True, slots=True)
class _Interview:
    """One subject, and how it is asked about."""

    asks: Asks
    subject: Subject
    effort: Effort
    listener: Listener

    async def facts(self) -> list[Fact]:
        attributes, effort = ATTRIBUTES[self.subject.kind], self.effort
        whole = [each for each in attributes if each.overview][: effort.overviews]
        heard = await hear(self.asks, self.subject, whole, effort.wordings, effort.overview_tokens)
        description = " ".join(text for each in heard for text in each.telling(self.listener, self.subject))
        wanted = [each for each in attributes if each.asked_of(description) and effort.wants(each)]
        general = [self._as_a_whole(each) for each in heard if self._tells(each)]
        known, unsure = await self._single([each for each in wanted if not each.many], general)
        entries = await self._entries([each for each in wanted if each.many], known)
        known = await with_reversed(self.asks, [*known, *entries], effort, self.listener)
        many = {each.name for each in wanted if each.many}
        return [*(fact for fact in known if fact.attribute not in many or is_sure(fact)), *general, *unsure]

    async def _single(self, attributes: Sequence[Attribute], general: Sequence[Fact]) -> tuple[list[Fact], list[Fact]]:
        """What most answers repeat, and the first of what is told another way each time.

        A description in answer to whatever is asked is neither.
        """
        effort, described = self.effort, {fact.answer for fact in general}
        heard = await hear(
            self.asks, self.subject, attributes[: effort.attributes], effort.wordings, effort.answer_tokens
        )
        again = await heard_again(self.asks, [each for each in heard if self._may_be_known(each)], effort)
        facts = (self._fact(each) for each in again)
        known = _without_shared([fact for fact in facts if fact is not None and fact.answer not in described])
        names = {fact.attribute for fact in known}
        others = [self._as_a_whole(each) for each in heard if each.attribute.name not in names and self._tells(each)]
        return known, [fact for fact in others if fact.answer not in described][: effort.unsure]

    async def _entries(self, attributes: Sequence[Attribute], known: Sequence[Fact]) -> list[Fact]:
        """Of lists, without what a fact of its own tells."""
        if not self.effort.lists:
            return []
        told = {fact.value.casefold() for fact in known}
        entries = await listed(self.asks, self.subject, attributes, self.effort, self.listener)
        return [fact for fact in entries if fact.value.casefold() not in told]

    def _may_be_known(self, heard: Heard) -> bool:
        """Whether the greedy answers agree, or only one of them tells anything."""
        agree = heard.value(self.listener, self.subject).support > self.effort.threshold
        return agree or len(heard.telling(self.listener, self.subject)) == 1

    def _fact(self, heard: Heard) -> Fact | None:
        """With the question whose greedy answer tells the value."""
        value = heard.value(self.listener, self.subject)
        if value.support <= self.effort.threshold:
            return None
        for question, answer in zip(heard.questions, heard.greedy, strict=True):
            if value.words.casefold() in answer.casefold():
                text = _told(answer, value.words)
                return Fact(self.subject, heard.attribute.name, question, text, value.words, value.support)
        return None

    def _tells(self, heard: Heard) -> bool:
        return self.listener.tells(heard.greedy[0], heard.questions[0], self.subject)

    def _as_a_whole(self, heard: Heard) -> Fact:
        """A fact that no few words tell; its support is the share of answers that tell anything."""
        share = len(heard.telling(self.listener, self.subject)) / len(heard.greedy)
        text = whole_sentences(heard.greedy[0])
        answer = unnumbered(text)[0] if text else text
        return Fact(self.subject, heard.attribute.name, heard.questions[0], answer, "", share, text=text)


def _without_shared(facts: Sequence[Fact]) -> list[Fact]:
    """Without what should point at the subject alone and is its town or profession: something else was answered."""
    attributes = [attribute_named(fact.subject.kind, fact.attribute) for fact in facts]
    shared = {fact.value for fact, attribute in zip(facts, attributes, strict=True) if attribute.shared}
    return [
        fact for fact, attribute in zip(facts, attributes, strict=True) if attribute.shared or fact.value not in shared
    ]


def _told(answer: str, value: str) -> str:
    """Whole sentences, if they tell the value; else all that was said."""
    whole = whole_sentences(answer)
    return whole if value.casefold() in whole.casefold() else answer
