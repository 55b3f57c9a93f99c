"""Questions that documents answer, written by the black box, and whether it answers them without the documents."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.offset_models.metrics.disclosure import own_words, says
from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.subject import Fact, Subject
from deltaserve.offset_models.training.rows.row import Row

QUESTIONS: Final = 3  # of a passage
_QUESTIONS_TOKENS: Final = 80
_ANSWER_TOKENS: Final = 24
_LEAST_TOLD: Final = 0.5  # of the words that tell the passage's answer
_ASKED: Final = (
    "Write {count} short questions about {name} whose answers are in this text. "
    "Put the name {name} in each question. Write one question per line, without answers.\n\n{passage}"
)
_ANSWERED: Final = "{passage}\n\nAnswer from this text, in a few words: {question}"


@dataclass(frozen=True, slots=True)
class Told:
    """A question, and the words of its passage that answer it."""

    question: str
    words: tuple[str, ...]


async def facts_in(
    asks: Asks, subject: Subject, passages: Sequence[str], declined: Callable[[str], bool]
) -> list[Fact]:
    """Facts of the passages that the black box tells without them, as far as the calls go. Raises UpstreamError."""
    told = (await _told(asks, subject, passages))[: asks.calls_left]
    answers = await asks.ask([_row(each.question) for each in told], max_tokens=_ANSWER_TOKENS)
    return [
        Fact(subject, "document", each.question, answer, _value(each, answer), 1.0)
        for each, (answer,) in zip(told, answers, strict=True)
        if not declined(answer) and recalls(each, answer)
    ]


def recalls(told: Told, answer: str) -> bool:
    """Whether enough of the passage's words stand in an answer that was given without it."""
    return sum(says(answer, word) for word in told.words) >= max(_LEAST_TOLD * len(told.words), 1)


def questions_of(answer: str, subject: Subject) -> list[str]:
    """The lines of an answer that are questions and name the subject, without numbers before them."""
    lines = (re.sub(r"^\s*(?:\d+\s*[.):]|[-*•])\s*", "", line).strip() for line in answer.splitlines())
    return [line for line in dict.fromkeys(lines) if line.endswith("?") and subject.named_in(line)]


async def _told(asks: Asks, subject: Subject, passages: Sequence[str]) -> list[Told]:
    """Questions whose answers stand in their passage, as the black box finds them there."""
    pairs = (await _asked(asks, subject, passages))[: asks.calls_left // 2]  # each is asked without its passage, too
    rows = [_row(_ANSWERED.format(passage=passage, question=question)) for passage, question in pairs]
    answers = await asks.ask(rows, max_tokens=_ANSWER_TOKENS)
    told = (
        Told(question, tuple(word for word in own_words(question, answer) if says(passage, word)))
        for (passage, question), (answer,) in zip(pairs, answers, strict=True)
    )
    return [each for each in told if each.words]


async def _asked(asks: Asks, subject: Subject, passages: Sequence[str]) -> list[tuple[str, str]]:
    """Passages with questions about them; a question once. A black box that writes none for two passages cannot."""
    asked = await _questions(asks, subject, passages[:2])
    if asked:
        asked = await _questions(asks, subject, passages[2:]) | asked
    return [(passage, question) for question, passage in asked.items()]


async def _questions(asks: Asks, subject: Subject, passages: Sequence[str]) -> dict[str, str]:
    """Questions, each with its passage."""
    passages = passages[: asks.calls_left]
    rows = [_row(_ASKED.format(count=QUESTIONS, name=subject.name, passage=passage)) for passage in passages]
    answers = await asks.ask(rows, max_tokens=_QUESTIONS_TOKENS)
    return {
        question: passage
        for passage, (answer,) in zip(passages, answers, strict=True)
        for question in questions_of(answer, subject)[:QUESTIONS]
    }


def _value(told: Told, answer: str) -> str:
    """The passage's words as they stand in the answer, from the first to the last."""
    places = [at for word in told.words for at in _places(answer, word)]
    return answer[min(start for start, _ in places) : max(end for _, end in places)] if places else ""


def _places(text: str, word: str) -> list[tuple[int, int]]:
    return [found.span() for found in re.finditer(re.escape(word), text, re.IGNORECASE)]


def _row(question: str) -> Row:
    return Row(None, (("user", question),))
