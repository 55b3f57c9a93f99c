"""What a model thinks before it answers, told from the answer: `<think>…</think>` and its kin."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from deltaserve.errors import NotConfigured
from deltaserve.server.answers.parts import AnswerParser, Content, Part, Reasoning, Segment, Special


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks around reasoning. Each is a token of its own where the tokenizer has it, else its letters."""

    name: str
    begin: str
    end: str
    head: str = ""  # what a model writes behind the begin mark, before it thinks

    @property
    def markers(self) -> tuple[str, str]:
        return self.begin, self.end


# The end mark is in every template of a model that thinks: it cuts the reasoning of earlier turns off, or closes it.
FORMATS: Final = (
    Thinking("think", "<think>", "</think>"),  # DeepSeek, Qwen, GLM, Granite 3.3, SmolLM, MiniMax, Kimi, Nemotron, …
    Thinking("mistral", "[THINK]", "[/THINK]"),
    Thinking("cohere", "<|START_THINKING|>", "<|END_THINKING|>"),
    Thinking("seed", "<seed:think>", "</seed:think>"),
    Thinking("thought", "<thought>", "</thought>"),  # EXAONE Deep
    Thinking("gemma4", "<|channel>", "<channel|>", "thought"),
    Thinking("apriel", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    Thinking("kimi_vl", "◁think▷", "◁/think▷"),
    Thinking("granite", "Here is my thought process:", "Here is my response:"),  # Granite 3.2
)
NAMES: Final = tuple(one.name for one in FORMATS)


@lru_cache(maxsize=64)  # of each chat request
def thinking_of(template: str, override: str = "auto") -> Thinking | None:
    """The marks that the chat template shows, or those that are named; None where it shows none, or for `off`.

    Raises NotConfigured where the name is unknown.
    """
    if override == "off":
        return None
    if override == "auto":
        return next((one for one in FORMATS if one.end in template), None)
    for one in FORMATS:
        if one.name == override:
            return one
    raise NotConfigured(f"reasoning_format must be auto, off, or one of {', '.join(NAMES)}.")


class Start(Enum):
    """Where an answer begins."""

    FREE = auto()  # the model may begin to think
    THINKING = auto()  # the prompt has begun it
    ANSWER = auto()  # the prompt has ended it, or goes on with an answer


def start_behind(prompt: str, thinking: Thinking, continued: str | None = None) -> Start:
    """Where an answer behind this prompt begins. `continued`: the assistant's own words that it goes on with."""
    if continued is not None:
        begun, ended = continued.rfind(thinking.begin), continued.rfind(thinking.end)
        return Start.THINKING if begun > ended else Start.ANSWER
    end = prompt.rstrip()
    if end.endswith(thinking.begin):
        return Start.THINKING
    return Start.ANSWER if end.endswith(thinking.end) else Start.FREE


class Plain:
    """All text is content; tokens in it are spelled out."""

    called = False

    def push(self, segment: Segment) -> list[Part]:
        return [Content(segment.text if isinstance(segment, Special) else segment)]

    def finish(self) -> list[Part]:
        return []


class _State(Enum):
    BEFORE = auto()  # nothing but white space, or the beginning of the begin mark, has come
    THINKING = auto()
    BEHIND = auto()  # behind the end mark, nothing but white space has come
    ANSWER = auto()


class ThinkingParser:
    """An `AnswerParser` that gives reasoning, and leaves what follows it to another one.

    White space beside the marks belongs to them. Reasoning stands at the beginning of an answer or nowhere: a mark that
    comes later is text.
    """

    def __init__(
        self, thinking: Thinking, start: Start, special: Mapping[str, int], answer: AnswerParser | None = None
    ) -> None:
        self._begin, self._end = (_Sign(text, text in special) for text in thinking.markers)
        self._answer = answer or Plain()
        self._state = _STATES[start]
        self._head = thinking.head if start is Start.FREE else ""  # has yet to come
        self._held = ""
        self._thought = False  # some reasoning was given

    @property
    def called(self) -> bool:
        return self._answer.called

    def push(self, segment: Segment) -> list[Part]:
        if self._state is _State.ANSWER:
            return self._answer.push(segment)
        if self._state is _State.BEFORE:
            return self._before(segment)
        return self._thinking(segment) if self._state is _State.THINKING else self._behind(segment)

    def finish(self) -> list[Part]:
        held, self._held = self._held, ""
        if self._state is _State.BEFORE and held:
            return [*self._answer.push(held), *self._answer.finish()]
        if self._state is _State.THINKING and held.strip():  # the beginning of an end mark that never came
            return [Reasoning(held), *self._answer.finish()]
        return self._answer.finish()

    def _before(self, segment: Segment) -> list[Part]:
        if isinstance(segment, Special):
            if self._begin.is_token(segment) and not self._held.strip():
                return self._go(_State.THINKING)
            return [*self._begin_answer(), *self._answer.push(segment)]
        self._held += segment
        begun = self._held.lstrip()
        if not self._begin.may_begin(begun):
            return self._begin_answer()
        if begun.startswith(self._begin.letters or "\0"):
            return self._go(_State.THINKING, begun[len(self._begin.text) :])
        return []

    def _begin_answer(self) -> list[Part]:
        """There is no reasoning: the answer is as it came."""
        held = self._held
        self._go(_State.ANSWER)
        return self._answer.push(held) if held else []

    def _thinking(self, segment: Segment) -> list[Part]:
        if isinstance(segment, Special):
            if self._end.is_token(segment):
                cut = [Reasoning(self._held)] if self._head and self._held else []
                return [*cut, *self._go(_State.BEHIND)]
            if self._begin.is_token(segment) and not self._thought:
                return []  # a model may begin what the prompt has begun
            segment = segment.text
        text = self._held + segment
        if not self._thought:
            text = text.lstrip()
            if self._head and text != self._head and self._head.startswith(text):
                self._held = text  # the head may still be coming
                return []
            text, self._head = text.removeprefix(self._head).lstrip(), ""
        before, found, rest = self._end.find(text)
        self._held = "" if found else before[len(before.rstrip()) :] + rest
        said = [Reasoning(before.rstrip())] if before.strip() else []
        self._thought = self._thought or bool(said)
        return [*said, *self._go(_State.BEHIND, rest)] if found else [*said]

    def _behind(self, segment: Segment) -> list[Part]:
        if isinstance(segment, Special):
            self._go(_State.ANSWER)
            return self._answer.push(segment)
        text = segment.lstrip()
        return self._go(_State.ANSWER, text) if text else []

    def _go(self, state: _State, rest: str = "") -> list[Part]:
        self._state, self._held = state, ""
        return self.push(rest) if rest else []


_STATES: Final = {Start.FREE: _State.BEFORE, Start.THINKING: _State.THINKING, Start.ANSWER: _State.ANSWER}


@dataclass(frozen=True, slots=True)
class _Sign:
    """A mark as an answer has it: a token, or letters."""

    text: str
    token: bool

    @property
    def letters(self) -> str:
        """Empty for a token: the same letters are text."""
        return "" if self.token else self.text

    def is_token(self, segment: Special) -> bool:
        return self.token and segment.text == self.text

    def may_begin(self, text: str) -> bool:
        """Whether `text` is, or may become, this mark and what follows it."""
        return not text or (not self.token and (text.startswith(self.text) or self.text.startswith(text)))

    def find(self, text: str) -> tuple[str, bool, str]:
        """(before it, whether it is there, behind it); where it is not, what may be its beginning is behind."""
        if self.token:
            return text, False, ""
        before, found, behind = text.partition(self.text)
        if found:
            return before, True, behind
        sizes = range(min(len(text), len(self.text) - 1), 0, -1)
        size = next((size for size in sizes if self.text.startswith(text[-size:])), 0)
        return text[: len(text) - size], False, text[len(text) - size :]
