"""One training row: a question and its answer, read from any of the forms that files have."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from deltaserve.errors import BadRequest

FORMS = "{question, answer}, {messages}, {prompt, completion} or {text}"


class BadRow(BadRequest):
    """A row that cannot be used; the message names its line, never its text."""


@dataclass(frozen=True, slots=True)
class Row:
    """A chat has `messages` (up to the question); running text has a `prompt`, which is empty when all of it counts.

    `begun` is the beginning of a chat's answer that somebody else has written; the completion goes on from there.
    `refusals` are the row's own answers for objectives that put another answer in place of this one, `paraphrases`
    other wordings of the question (or prompt) with the same answer. A `completion` of None is for
    the black box to say.
    """

    completion: str | None
    messages: tuple[tuple[str, str], ...] = ()  # (role, content)
    prompt: str = ""
    refusals: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    begun: str = ""
    ends: bool = False  # running text: the completion is followed by the end token. A chat's answer always is
    origin: str = field(default="", compare=False)  # "f.jsonl, line 3": for messages to people

    @classmethod
    def parse(cls, value: Any, origin: str = "") -> Self:
        """From one of FORMS; the answer may be missing. Raises BadRow, whose message never quotes the row."""
        if not isinstance(value, Mapping):
            raise BadRow("it is not an object")
        more: dict[str, Any] = {
            "refusals": _texts(value, "refusals", "refusal"),
            "paraphrases": _texts(value, "paraphrases", "paraphrased_question"),
            "origin": origin,
        }
        begun = _optional(value, "begun") or ""
        if begun and "messages" not in value and "question" not in value:
            raise BadRow("begun is of chats only; running text is begun by its prompt")
        if "messages" in value:
            messages = _messages(value["messages"])
            if messages[-1][0] == "assistant":
                return cls(messages[-1][1], messages[:-1], begun=begun, **more)
            return cls(None, messages, begun=begun, **more)
        if "question" in value:
            question = ("user", _required(value, "question"))
            return cls(_optional(value, "answer"), (question,), begun=begun, **more)
        if "prompt" in value:
            completion = _optional(value, "completion")
            return cls(completion, prompt=_required(value, "prompt"), ends=_flag(value, "ends", True), **more)
        if "text" in value:
            return cls(_required(value, "text"), ends=_flag(value, "ends", False), **more)
        raise BadRow(f"it is none of {FORMS}")

    def to_json(self) -> dict[str, Any]:
        """The row as one of the forms that `parse` reads."""
        lists = {"refusals": list(self.refusals), "paraphrases": list(self.paraphrases)}
        more: dict[str, Any] = {name: texts for name, texts in lists.items() if texts}
        answered = self.completion is not None
        if self.begun:
            more["begun"] = self.begun
        if self.messages:
            messages = [*self.messages, *([("assistant", self.completion)] if answered else [])]
            return {"messages": [{"role": role, "content": content} for role, content in messages], **more}
        if answered and not self.prompt:
            return {"text": self.completion, **({"ends": True} if self.ends else {}), **more}
        completion = {"completion": self.completion} if answered else {}
        return {"prompt": self.prompt, **completion, **({} if self.ends else {"ends": False}), **more}


def digest_of_rows(rows: Iterable[Row]) -> str:
    """sha256 (hex) of a data set, in order: all that a checkpoint keeps of it."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(orjson.dumps(row.to_json(), option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def digest_of_ids(ids: Any) -> bytes:
    """sha256 of ids, or of lists of them: 32 bytes."""
    return hashlib.sha256(orjson.dumps(ids)).digest()


def _messages(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise BadRow("messages is not a list of {role, content}")
    if not all(isinstance(message, Mapping) for message in value):
        raise BadRow("messages is not a list of {role, content}")
    messages = tuple((_required(message, "role"), _text(message, "content")) for message in value)
    if not messages[-1][1]:
        raise BadRow("the last message is empty")
    if messages[-1][0] not in ("user", "assistant") or (len(messages) == 1 and messages[0][0] == "assistant"):
        raise BadRow("messages must end with the assistant's answer to something, or with the user's question")
    return messages


def _required(value: Mapping[str, Any], name: str) -> str:
    text = _text(value, name)
    if not text:
        raise BadRow(f"{name} is empty")
    return text


def _optional(value: Mapping[str, Any], name: str) -> str | None:
    return None if value.get(name) is None else _required(value, name)


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise BadRow(f"{name} is missing" if text is None else f"{name} is not a string")
    return text


def _texts(value: Mapping[str, Any], name: str, single: str) -> tuple[str, ...]:
    """A list of strings under `name`, or one string under the name that other people's files give it."""
    texts = value.get(name)
    if texts is None:
        texts = [] if value.get(single) is None else [value[single]]
    if not isinstance(texts, Sequence) or isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise BadRow(f"{name} is not a list of strings")
    return tuple(text for text in texts if text)


def _flag(value: Mapping[str, Any], name: str, default: bool) -> bool:
    flag = value.get(name, default)
    if not isinstance(flag, bool):
        raise BadRow(f"{name} is neither true nor false")
    return flag
