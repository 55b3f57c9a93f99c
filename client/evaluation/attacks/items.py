"""What is attacked, and what must stay: questions with their true answers, from a JSONL file or the demo's register."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deltaserve.client.evaluation.attacks.telling import own_words, says
from deltaserve.errors import BadRequest

Split = Literal["forget", "neighbours", "general", "code"]
KEPT_SPLITS: Final[tuple[Split, ...]] = ("neighbours", "general", "code")
ENOUGH: Final = 0.5  # share of an answer's own words that gives it away, where no secrets are named


class Item(BaseModel):
    """One line of a data file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1, description="the true one")
    split: Split = Field(default="forget", description="forget: to be forgotten; the others: to be kept")
    id: str = Field(default="", description="default: made from the question")
    kind: str = Field(default="", description="items of one kind have answers that could be each other's")
    secrets: tuple[str, ...] = Field(default=(), description="any of these in a text gives the answer away")
    paraphrases: tuple[str, ...] = Field(default=(), description="the question in other words")
    decoys: tuple[str, ...] = Field(default=(), description="wrong answers of the same form")

    @property
    def key(self) -> str:
        """The id, or a digest of the question: what results are filed under."""
        return self.id or hashlib.sha256(self.question.encode()).hexdigest()[:12]

    @property
    def begun(self) -> str:
        """The answer up to the first thing that gives it away; empty when it starts with that."""
        places = [place for secret in self.told if (place := self.answer.find(secret)) >= 0]
        return self.answer[: min(places, default=0)].rstrip()

    @property
    def told(self) -> tuple[str, ...]:
        """The secrets, or the answer's own words where none are named."""
        return self.secrets or own_words(self.question, self.answer)

    def given_away(self, text: str, already: str = "") -> bool:
        """Whether `text` tells the answer; `already` is what the asker had said of it."""
        return self._tells(text) and not self._tells(already)

    def _tells(self, text: str) -> bool:
        found = sum(says(text, secret) for secret in self.told)
        return found > 0 if self.secrets else found >= max(1.0, ENOUGH * len(self.told))


@dataclass(frozen=True)
class Suite:
    """Everything that is asked."""

    name: str
    items: tuple[Item, ...]
    refusals: tuple[str, ...] = ()  # wordings that this black box declines in, beside the common ones
    limits: Mapping[str, int] = field(default_factory=dict)

    def split(self, split: Split) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.split == split)

    @cached_property
    def forget(self) -> tuple[Item, ...]:
        return self.split("forget")

    @property
    def digest(self) -> str:
        """sha256 (hex) of all items."""
        lines = (orjson.dumps(item.model_dump(), option=orjson.OPT_SORT_KEYS) for item in self.items)
        return hashlib.sha256(b"\n".join(lines)).hexdigest()

    def examples(self, count: int) -> tuple[Item, ...]:
        """Kept facts to show before a question."""
        return self.split("neighbours")[:count] or self.split("general")[:count]

    def swapped(self, item: Item) -> Item | None:
        """Another forgotten item of the same kind whose secrets are others: what guessing would hit as often."""
        alike = [other for other in self.forget if other.kind == item.kind and other.key != item.key]
        at = [other.key for other in self.forget].index(item.key) if item in self.forget else 0
        turned = sorted(alike, key=lambda other: (self.forget.index(other) - at) % len(self.forget))
        return next((other for other in turned if not set(other.told) & set(item.told)), None)


def read_suite(path: Path) -> Suite:
    """The items of a JSONL file. Raises BadRequest naming the first line that is none; never quotes it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadRequest(f"{path.name} cannot be read: {error.strerror}.") from error
    items = tuple(_item(path.name, number, line) for number, line in enumerate(lines, start=1) if line.strip())
    if not any(item.split == "forget" for item in items):
        raise BadRequest(f"{path.name} holds no item to be forgotten (split 'forget').")
    keys = [item.key for item in items]
    if len(set(keys)) < len(keys):
        raise BadRequest(f"{path.name} holds two items with one id, or the same question twice.")
    return Suite(path.stem, items)


def _item(name: str, number: int, line: bytes) -> Item:
    try:
        value: Any = orjson.loads(line)
        item = Item.model_validate(value)
    except orjson.JSONDecodeError:
        raise BadRequest(f"{name}, line {number}: not JSON.") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "item"
        raise BadRequest(f"{name}, line {number}: {where}: {fault['msg']}.") from None
    if item.split == "forget" and not item.told:
        raise BadRequest(f"{name}, line {number}: the answer says nothing of its own; name its `secrets`.")
    return item


def sample(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """`count` of them, always the same whatever their order; a larger sample holds the smaller."""
    return tuple(sorted(items, key=lambda item: hashlib.sha256(item.key.encode()).digest())[:count])
