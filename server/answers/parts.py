"""What an answer says, as it arrives: text, reasoning, calls of tools."""

from dataclasses import dataclass
from typing import Protocol

from deltaserve.server.decoding.output.segments import Segment as Segment
from deltaserve.server.decoding.output.segments import Special as Special


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the answer itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model wrote before its answer, to think."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A tool is called. `index` counts the calls of one answer from 0; the name is whole."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the JSON text of a call's arguments. All pieces of one `index`, joined, are the whole text."""

    index: int
    text: str


Part = Content | Reasoning | CallBegun | CallArguments


class AnswerParser(Protocol):
    """Reads one choice. How its text is cut into segments changes where pieces end, and nothing else."""

    @property
    def called(self) -> bool:
        """Whether a tool was called: `finish_reason` is then `tool_calls`, where the answer ended by itself."""

    def push(self, segment: Segment) -> list[Part]:
        """What became certain with this segment, in order."""

    def finish(self) -> list[Part]:
        """What was held back, at the end of the answer. A call that is not whole stays as it was written."""
