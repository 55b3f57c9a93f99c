"""Prefixes as chats: a black box that takes messages only, and goes on behind the beginning of an answer.

The ids' text is taken apart at the words that the pair's own chat template puts between messages. What comes of it is
believed only if the template makes the same text of it again, to the letter, and the text the same ids: then a server
with the same template reads exactly them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Protocol

from deltaserve.errors import BadRequest
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.text.prefixes import text_of

_MARKS: Final = tuple(f"qzwchat{name}wzq" for name in ("one", "two", "three", "four"))
_REMEMBERED: Final = 256  # conversations
Message = dict[str, str]


class ChatTokenizer(TokenizerView, Protocol):
    """The pair's tokenizer with its chat template."""

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages, and the beginning of the answer to them; "" where it has none yet."""

    messages: tuple[Message, ...]
    begun: str


@dataclass(frozen=True)
class ChatText:
    """Ids as a chat."""

    tokenizer: ChatTokenizer
    _known: dict[str, tuple[Message, ...]] = field(default_factory=dict)  # by the text up to the answer

    def exact(self, token_ids: Sequence[int]) -> Chat | None:
        ids = list(token_ids)
        text = text_of(self.tokenizer, ids)
        opened = text.rfind(self._opening) if text is not None and self._opening else -1
        if text is None or opened < 0:
            return None
        at = opened + len(self._opening)
        messages = self._messages(text[:at])
        if messages is None or not self._goes_on(messages, text, at, ids):
            return None
        return Chat(messages, text[at:])

    def _goes_on(self, messages: Sequence[Message], text: str, at: int, ids: list[int]) -> bool:
        """Whether an answer that begins so is written, and read, behind the messages as it stands here.

        Some servers encode the two texts apart, others as one: both have to come to the same.
        """
        head, begun = text[:at], text[at:]
        if not begun:
            return True
        answer = [*messages, {"role": "assistant", "content": begun}]
        written = self._rendered(answer, add_generation_prompt=False, continue_final_message=True)
        return written == text and self.tokenizer.encode(head) + self.tokenizer.encode(begun) == ids

    def _messages(self, head: str) -> tuple[Message, ...] | None:
        """Of the text up to where an answer begins; None where the template would not write it so."""
        if head in self._known:
            return self._known[head]
        for taken in self._taken_apart(head):
            if self._rendered(taken, add_generation_prompt=True) == head:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[head] = tuple(taken)
                return self._known[head]
        return None

    def _taken_apart(self, head: str) -> list[list[Message]]:
        """Both ways to read it: with a system message, and without."""
        body = head.removesuffix(self._opening)
        found = []
        for start, first in self._starts:
            rest = body.removeprefix(start)
            if rest == body and start:
                continue
            system: list[Message] = []
            if first is not None:
                said, between, rest = rest.partition(first)
                if not between:
                    continue
                system = [{"role": "system", "content": said}]
            found.append([*system, *self._turns(rest)])
        return found

    def _turns(self, text: str) -> list[Message]:
        """Questions and answers by turns, the first and the last a question."""
        turns: list[Message] = []
        for exchange in text.split(self._next) if self._next else [text]:
            question, opening, answer = exchange.partition(self._reply)
            turns.append({"role": "user", "content": question})
            if opening:
                turns.append({"role": "assistant", "content": answer})
        return turns

    @cached_property
    def _between(self) -> list[str]:
        """What the template writes before, between and behind a system message, a question, an answer, a question.

        Without the system message where it knows none.
        """
        roles = ("system", "user", "assistant", "user")
        chat = [{"role": role, "content": mark} for role, mark in zip(roles, _MARKS, strict=True)]
        return _around(self._rendered(chat), _MARKS) or _around(self._rendered(chat[1:]), _MARKS[1:])

    @cached_property
    def _opening(self) -> str:
        """Behind the last question; "" where the template makes no chats."""
        return self._between[-1] if self._between else ""

    @cached_property
    def _reply(self) -> str:
        """Between an earlier question and its answer."""
        return self._between[-3] if self._between else ""

    @cached_property
    def _next(self) -> str:
        """Between an answer and the next question."""
        return self._between[-2] if self._between else ""

    @cached_property
    def _starts(self) -> list[tuple[str, str | None]]:
        """What stands before the first message, and between a system message and the first question."""
        question = _MARKS[1]
        alone = _around(self._rendered([{"role": "user", "content": question}]), (question,))
        with_system = [(self._between[0], self._between[1])] if len(self._between) > len(_MARKS) else []
        return [*with_system, *([(alone[0], None)] if alone else [])]

    def _rendered(self, messages: Sequence[Mapping[str, Any]], **how: bool) -> str | None:
        try:
            return self.tokenizer.render_chat(messages, **how)
        except BadRequest:  # no template, or none that writes such a chat
            return None


def _around(text: str | None, marks: Sequence[str]) -> list[str]:
    """The pieces around the marks, which must each stand once and in order; none otherwise."""
    if text is None or any(text.count(mark) != 1 for mark in marks):
        return []
    at = [text.index(mark) for mark in marks]
    if at != sorted(at):
        return []
    bounds = [
        0,
        *(edge for start, mark in zip(at, marks, strict=True) for edge in (start, start + len(mark))),
        len(text),
    ]
    return [text[start:stop] for start, stop in list(pairwise(bounds))[::2]]
