"""Rows as token ids with the answer's place; the loss covers the answer and its end token, nothing else."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import or_

from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.continuation import Answered, answered, completed, whole_text
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.row import BadRow, Row, digest_of_ids


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
    def after_misread(self) -> list[bool]:
        """Of each answer position, whether a token before it is read wrong."""
        wrong = [read != token for read, token in zip(self.read_ids, self.answer_ids, strict=False)]
        return list(accumulate([False, *wrong], or_))[:-1] if wrong else [False] * len(self.answer_ids)

    @property
    def digest(self) -> bytes:
        """sha256 of the ids and of where the answer starts: 32 bytes."""
        return digest_of_ids([self.prompt_ids, self.answer_ids, *([self.read_ids] if self.read_ids else [])])


def encode(row: Row, tokenizer: Tokenizer) -> Sample:
    """The row as ids, as it is served. A chat's answer gets the token that ends its turn, running text that of texts.

    Raises BadRow.
    """
    if row.completion is None:
        raise BadRow(named(row, "It has no answer"))
    ids = _answered(row, row.completion, tokenizer)
    if row.messages:
        return _sample(row, ids.prompt_ids, [*ids.answer_ids, *tokenizer.answer_end])
    return _sample(row, ids.prompt_ids, [*ids.answer_ids, *(tokenizer.eos_ids[:1] if row.ends else ())])


def prompt_ids(row: Row, tokenizer: Tokenizer) -> list[int]:
    """What is served before the row's answer. Raises BadRow."""
    try:
        if row.messages:
            return tokenizer.encode(_rendered(row, tokenizer))
        return tokenizer.encode(row.prompt, add_special=True)
    except BadRequest as error:
        raise BadRow(named(row, error.message)) from error


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


def _answered(row: Row, completion: str, tokenizer: Tokenizer) -> Answered:
    try:
        if row.begun:
            return completed(tokenizer, _rendered(row, tokenizer), completion, add_special=False)
        if row.messages:
            return answered(tokenizer, _chat(row), completion)
        return completed(tokenizer, row.prompt, completion) if row.prompt else whole_text(tokenizer, completion)
    except BadRequest as error:
        raise BadRow(named(row, error.message)) from error


def _rendered(row: Row, tokenizer: Tokenizer) -> str:
    """The chat up to where the answer begins, or goes on."""
    if not row.begun:
        return tokenizer.render_chat(_chat(row))
    chat = [*_chat(row), {"role": "assistant", "content": row.begun}]
    return tokenizer.render_chat(chat, add_generation_prompt=False, continue_final_message=True)


def _chat(row: Row) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in row.messages]


def named(row: Row, what: str) -> str:
    """A sentence about the row that says where it stands, if that is known; never its text."""
    return f"{row.origin}: {what[0].lower()}{what[1:].rstrip('.')}." if row.origin else f"{what.rstrip('.')}."


def _sample(row: Row, prompt: Sequence[int], answer: Sequence[int]) -> Sample:
    if not prompt or not answer:
        raise BadRow(named(row, "A training row needs a prompt and an answer of at least one token each"))
    return Sample(tuple(prompt), tuple(answer))
