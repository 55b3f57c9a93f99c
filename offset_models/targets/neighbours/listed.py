"""Neighbours that a black box lists when it is asked for them."""

from collections.abc import Sequence
from typing import Final

from deltaserve.offset_models.metrics.words import folded
from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.heard import greedily
from deltaserve.offset_models.targets.neighbours.candidates import Candidate, chosen
from deltaserve.offset_models.targets.neighbours.naming import is_made_up, names_in
from deltaserve.offset_models.targets.neighbours.wordings import NAMESAKES, ONLY, SHARING, SIMILAR
from deltaserve.offset_models.targets.subject import Fact, Known

TEN_TOKENS: Final = 90
FIVE_TOKENS: Final = 48
SHARED: Final = 5  # values of the target that others are asked for by
_SMALL_WORDS: Final = frozenset(
    {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"}
)  # fmt: skip


async def lists_around(asks: Asks, target: Known) -> list[list[Candidate]]:
    """All lists that can be paid for: some 8 calls; 2, and no list, of a black box that names nobody.

    Raises UpstreamError.
    """
    alike = await similar(asks, target)
    return [*alike, *await sharing(asks, target)] if chosen(target, alike) else []


async def similar(asks: Asks, target: Known) -> list[list[Candidate]]:
    """Others of the kind: one list for each wording. Raises UpstreamError."""
    name, kind = target.subject.name, target.subject.kind
    asked = [text.format(name=name) for text in SIMILAR[kind]]
    return [
        [Candidate(each, "of the same kind") for each in names]
        for names in await _lists(asks, target, asked, TEN_TOKENS)
    ]


async def sharing(asks: Asks, target: Known) -> list[list[Candidate]]:
    """Who has the same value, one list for each of the first few values, and who has a word of the name.

    Raises UpstreamError.
    """
    whys = {_question(target, fact): f"same {fact.attribute}" for fact in _shared(target)}
    if word := _own_word(target):
        whys[NAMESAKES[target.subject.kind].format(word=word)] = "shares a word of the name"
    lists = await _lists(asks, target, list(whys), FIVE_TOKENS)
    return [[Candidate(name, why) for name in names] for why, names in zip(whys.values(), lists, strict=False)]


async def _lists(asks: Asks, target: Known, questions: Sequence[str], max_tokens: int) -> list[list[str]]:
    answers = await greedily(asks, [question + ONLY for question in questions], max_tokens)
    lists = [names_in(answer, target.subject.kind, cut=_is_cut(answer, max_tokens)) for answer in answers]
    return [[] if is_made_up(names) else names for names in lists]


def _is_cut(answer: str, max_tokens: int) -> bool:
    """Whether it may have ended at the limit: names take three characters a token, or more."""
    return len(answer) > 2 * max_tokens


def _shared(target: Known) -> list[Fact]:
    """One fact of each attribute that others share, those first that are named first in the wordings."""
    facts = {fact.attribute: fact for fact in reversed(target.facts) if fact.value}
    return [facts[name] for name in SHARING[target.subject.kind] if name in facts][:SHARED]


def _question(target: Known, fact: Fact) -> str:
    return SHARING[target.subject.kind][fact.attribute].format(value=fact.value)


def _own_word(target: Known) -> str:
    """The surname, or the longest word of a name of several words; else none."""
    words = [word for word in target.subject.name.split() if folded(word) not in _SMALL_WORDS]
    if len(words) < 2:
        return ""
    return words[-1] if target.subject.kind in ("person", "character") else max(words, key=len)
