"""Asks the attributes of a subject, and keeps what was answered to which wording."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.effort import Effort
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.facts.values import Value, value_of
from deltaserve.offset_models.targets.kinds.attribute import Attribute
from deltaserve.offset_models.targets.subject import Subject
from deltaserve.offset_models.training.rows.row import Row


@dataclass(frozen=True, slots=True)
class Heard:
    """Questions of one attribute with their greedy answers, and answers to the first that were drawn."""

    attribute: Attribute
    questions: tuple[str, ...]
    greedy: tuple[str, ...]
    drawn: tuple[str, ...] = ()

    def telling(self, listener: Listener, subject: Subject) -> list[str]:
        """Answers that tell something, the greedy ones first."""
        asked = (*self.questions, *(self.questions[0] for _ in self.drawn))
        answers = (*self.greedy, *self.drawn)
        return [text for text, question in zip(answers, asked, strict=True) if listener.tells(text, question, subject)]

    def value(self, listener: Listener, subject: Subject) -> Value:
        """What the answers agree on, of all that were given."""
        answers, count = self.telling(listener, subject), len(self.greedy) + len(self.drawn)
        return value_of(answers, " ".join(self.questions), subject, self.attribute.tells, count)


def as_question(text: str) -> Row:
    """A chat of one message."""
    return Row(None, (("user", text),))


async def greedily(asks: Asks, questions: Sequence[str], max_tokens: int) -> list[str]:
    """Greedy answers to the first questions that can be paid for."""
    affordable = questions[: asks.calls_left]
    return [text for (text,) in await asks.ask(list(map(as_question, affordable)), max_tokens=max_tokens)]


async def hear(
    asks: Asks, subject: Subject, attributes: Sequence[Attribute], wordings: int, max_tokens: int
) -> list[Heard]:
    """Greedy answers to the first wordings of each attribute; of attributes that cannot be paid for there are none."""
    questions = [[text.format(name=subject.name) for text in each.questions[:wordings]] for each in attributes]
    answers = iter(await greedily(asks, [text for each in questions for text in each], max_tokens))
    heard = list[Heard]()
    for attribute, texts in zip(attributes, questions, strict=True):
        said = tuple(answer for _, answer in zip(texts, answers, strict=False))
        if len(said) == len(texts):
            heard.append(Heard(attribute, tuple(texts), said))
    return heard


async def heard_again(asks: Asks, heard: Sequence[Heard], effort: Effort) -> list[Heard]:
    """The same with drawn answers to the first wording, for those that can be paid for."""
    if not effort.samples:
        return list(heard)
    affordable = heard[: asks.calls_left // effort.samples]
    rows = [as_question(each.questions[0]) for each in affordable]
    drawn = await asks.ask(
        rows, max_tokens=effort.answer_tokens, temperature=effort.temperature, samples=effort.samples
    )
    again = [replace(each, drawn=texts) for each, texts in zip(affordable, drawn, strict=True)]
    return [*again, *heard[len(affordable) :]]
