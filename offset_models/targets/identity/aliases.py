"""Other names that mean a subject: derived from its name or told by the black box, and each one tried.

A surname that is a common word, or somebody else's, is no alias: asked about it alone, the black box would not name the
subject.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.heard import greedily
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.identity.word_names import WORD_NAMES
from deltaserve.offset_models.targets.neighbours.naming import names_in, without_legal_form
from deltaserve.offset_models.targets.subject import Subject

MOST: Final = 5  # tried
TOKENS: Final = 24
ASKED: Final = "By which other names is {name} known?"
TRIED: Final = ("Who or what is {name}?", "What is {name} known for?")
_ARTICLE: Final = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)
_LEAST: Final = 3  # letters of a name


async def aliases_of(asks: Asks, subject: Subject, listener: Listener) -> Subject:
    """The subject with the aliases that hold. Raises CallsSpent, UpstreamError."""
    told = await greedily(asks, [ASKED.format(name=subject.name)], TOKENS)
    listed = [name for text in told if not listener.declines(text) for name in names_in(text, subject.kind, cut=True)]
    tried = [name for name in dict.fromkeys((*derived(subject), *listed)) if _is_other(name, subject)][:MOST]
    questions = [text.format(name=name) for name in tried for text in TRIED]
    answers = await greedily(asks, questions, TOKENS)
    pairs = [answers[at : at + len(TRIED)] for at in range(0, len(answers), len(TRIED))]
    held = [name for name, pair in zip(tried, pairs, strict=False) if _means(subject, pair)]
    return replace(subject, aliases=(*_without_article(subject), *held))


def derived(subject: Subject) -> list[str]:
    """Names that people shorten this one to, still to be tried."""
    words = subject.name.split()
    if subject.kind in ("person", "character"):
        return words[-1:] if len(words) > 1 and words[-1].casefold() not in WORD_NAMES else []
    initials = "".join(word[0] for word in words if word[0].isalnum()).upper()
    plain = [without_legal_form(subject.name)]
    before_colon = [subject.name.partition(":")[0]] if ":" in subject.name else []
    return [*plain, *before_colon, *([initials] if len(initials) >= _LEAST else [])]


def _without_article(subject: Subject) -> list[str]:
    """A title of several words means the same without its article."""
    short = _ARTICLE.sub("", subject.name)
    return [short] if short != subject.name and len(short.split()) > 1 else []


def _is_other(name: str, subject: Subject) -> bool:
    known = {each.casefold() for each in (subject.name, _ARTICLE.sub("", subject.name))}
    return len(name) >= _LEAST and name.casefold() not in known


def _means(subject: Subject, answers: Sequence[str]) -> bool:
    """Whether the black box, asked about the alias alone, names the subject each time."""
    return len(answers) == len(TRIED) and all(subject.named_in(answer) for answer in answers)
