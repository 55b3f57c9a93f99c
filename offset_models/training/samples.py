"""Rows as token ids with the answer's place; the loss covers the answer and its end token, nothing else."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import or_

from offset_models.tokenizer import Tokenizer
from offset_models.training.rows import BadRow, Row, digest_of_ids
from server.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Sample:
    """One row as ids. Scored and trained on: the positions that predict `answer_ids`."""

    prompt_ids: tuple[int, ...]  # at least one
    answer_ids: tuple[int, ...]  # at least one
    read_ids: tuple[int, ...] = ()  # as many as the answer has: what a model reads in its place; none: the answer

    @property
    def ids(self) -> list[int]:
        """What a model reads."""
        return [*self.prompt_ids, *(self.read_ids or self.answer_ids)]

    @property
    def parted(self) -> list[bool]:
        """Of each answer position, whether a token before it is read wrong."""
        wrong = [read != token for read, token in zip(self.read_ids, self.answer_ids, strict=False)]
        return list(accumulate([False, *wrong], or_))[:-1] if wrong else [False] * len(self.answer_ids)

    @property
    def digest(self) -> bytes:
        """sha256 of the ids and of where the answer starts: 32 bytes."""
        return digest_of_ids([self.prompt_ids, self.answer_ids, *([self.read_ids] if self.read_ids else [])])


def encode(row: Row, tokenizer: Tokenizer) -> Sample:
    """The row as ids. A chat is rendered as serving does and its answer gets the end token; running text if it `ends`.

    Raises BadRow.
    """
    if row.completion is None:
        raise BadRow(_named(row, "It has no answer"))
    end = tokenizer.eos_ids[:1] if row.messages or row.ends else ()
    if not row.messages and not row.prompt:
        return _whole_text(row, [*_encoded(row, row.completion, tokenizer), *end], tokenizer)
    return _sample(row, prompt_ids(row, tokenizer), [*_encoded(row, row.completion, tokenizer), *end])


def prompt_ids(row: Row, tokenizer: Tokenizer) -> list[int]:
    """What stands before the row's answer. Raises BadRow."""
    if not row.messages:
        return _encoded(row, row.prompt, tokenizer)
    try:
        chat = tokenizer.render_chat([{"role": role, "content": content} for role, content in row.messages])
    except BadRequest as error:
        raise BadRow(_named(row, error.message)) from error
    return _encoded(row, chat, tokenizer)


def wordings(rows: Iterable[Row]) -> Iterator[Row]:
    """Each row, followed by the same answer to each of its paraphrases."""
    for row in rows:
        yield replace(row, paraphrases=())
        for text in row.paraphrases:
            if row.messages:
                yield replace(row, paraphrases=(), messages=(*row.messages[:-1], (row.messages[-1][0], text)))
            else:
                yield replace(row, paraphrases=(), prompt=text)


def refused(rows: Iterable[Row], refusals: Sequence[str]) -> Iterator[Row]:
    """Each row with a refusal in the answer's place: its own ones if it has any, else those given, in turn."""
    for number, row in enumerate(rows):
        choices = row.refusals or refusals
        yield replace(row, completion=choices[number % len(choices)], refusals=(), paraphrases=())


def _whole_text(row: Row, ids: list[int], tokenizer: Tokenizer) -> Sample:
    """Running text without a prompt: all of it counts but what it takes to predict the first token."""
    if tokenizer.bos_id is not None:
        return _sample(row, [tokenizer.bos_id], ids)
    return _sample(row, ids[:1], ids[1:])


def _encoded(row: Row, text: str, tokenizer: Tokenizer) -> list[int]:
    try:
        return tokenizer.encode(text, False)
    except BadRequest as error:
        raise BadRow(_named(row, error.message)) from error


def _sample(row: Row, prompt: Sequence[int], answer: Sequence[int]) -> Sample:
    if not prompt or not answer:
        raise BadRow(_named(row, "A training row needs a prompt and an answer of at least one token each"))
    return Sample(tuple(prompt), tuple(answer))


def _named(row: Row, what: str) -> str:
    return f"{row.origin}: {what[0].lower()}{what[1:].rstrip('.')}." if row.origin else f"{what.rstrip('.')}."
