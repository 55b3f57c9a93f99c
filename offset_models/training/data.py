"""Training rows: JSON lines in, token ids with the answer's place out; the loss covers the answer and its end token."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from offset_models.tokenizer import Tokenizer
from server.errors import BadRequest

Message = dict[str, str]


class BadRow(BadRequest):
    """A line of a training file that cannot be used; the message names the line, never its text."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is asked and what is answered. A chat has `messages` (up to the question); running text has a `prompt`.

    `refusals` are the row's own answers for objectives that put another answer in place of this one.
    """

    completion: str
    messages: tuple[tuple[str, str], ...] = ()  # (role, content)
    prompt: str = ""
    refusals: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: Any) -> Self:
        """From `{question, answer}`, `{messages}` (the last one is the answer) or `{prompt, completion}`.

        Raises KeyError, TypeError or ValueError.
        """
        refusals = tuple(map(_text, value.get("refusals", ())))
        if "messages" in value:
            messages = tuple((_text(message["role"]), _text(message["content"])) for message in value["messages"])
            if len(messages) < 2 or messages[-1][0] != "assistant":
                raise ValueError("messages end with the assistant's answer")
            return cls(messages[-1][1], messages[:-1], refusals=refusals)
        if "question" in value:
            return cls(_text(value["answer"]), (("user", _text(value["question"])),), refusals=refusals)
        return cls(_text(value["completion"]), prompt=_text(value["prompt"]), refusals=refusals)

    def to_json(self) -> dict[str, Any]:
        """The row as one of the forms that `parse` reads."""
        more = {"refusals": list(self.refusals)} if self.refusals else {}
        if not self.messages:
            return {"prompt": self.prompt, "completion": self.completion, **more}
        said = [*self.messages, ("assistant", self.completion)]
        return {"messages": [{"role": role, "content": content} for role, content in said], **more}


@dataclass(frozen=True, slots=True)
class Sample:
    """One row as ids. Scored and trained on: the positions that predict `answer_ids`."""

    prompt_ids: tuple[int, ...]  # at least one
    answer_ids: tuple[int, ...]  # at least one

    @property
    def ids(self) -> list[int]:
        return [*self.prompt_ids, *self.answer_ids]

    @property
    def digest(self) -> bytes:
        """sha256 of the ids and of where the answer starts: 32 bytes."""
        return hashlib.sha256(orjson.dumps([self.prompt_ids, self.answer_ids])).digest()


def read_rows(path: Path) -> list[Row]:
    """All rows of a JSONL file; blank lines are skipped. Raises BadRow for the first bad one, with its line number."""
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                rows.append(Row.parse(orjson.loads(line)))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise BadRow(f"{path.name}, line {number}: not a training row.") from None
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line."""
    path.write_bytes(b"".join(orjson.dumps(row.to_json()) + b"\n" for row in rows))


def encode(row: Row, tokenizer: Tokenizer) -> Sample:
    """The row as ids. A chat is rendered as serving does and its answer gets the end token; running text none."""
    if not row.messages:
        return _sample(tokenizer.encode(row.prompt, False), tokenizer.encode(row.completion, False))
    prompt = tokenizer.render_chat([{"role": role, "content": content} for role, content in row.messages])
    return _sample(tokenizer.encode(prompt, False), [*tokenizer.encode(row.completion, False), *tokenizer.eos_ids[:1]])


def refused(rows: Iterable[Row], refusals: Sequence[str]) -> Iterator[Row]:
    """Each row with a refusal in the answer's place: its own ones if it has any, else those given, in turn."""
    for number, row in enumerate(rows):
        choices = row.refusals or refusals
        yield Row(choices[number % len(choices)], row.messages, row.prompt)


def digest_of_rows(rows: Iterable[Row]) -> str:
    """sha256 (hex) of a data set, in order: all that a checkpoint keeps of it."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(orjson.dumps(row.to_json(), option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def _sample(prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> Sample:
    if not prompt_ids or not answer_ids:
        raise BadRow("A training row needs a prompt and an answer of at least one token each.")
    return Sample(tuple(prompt_ids), tuple(answer_ids))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value
