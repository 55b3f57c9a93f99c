"""An answer's parts as blocks, one after another: what /v1/responses calls items and /v1/messages content blocks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import orjson

from deltaserve.server.answers.parts import CallArguments, CallBegun, Content, Part, Reasoning

Kind = Literal["text", "thinking", "call"]


@dataclass(slots=True)
class Block:
    """A run of text or of reasoning, or one tool call with the JSON text of its arguments."""

    at: int  # its place in the answer
    kind: Kind
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    cut: bool = False  # the answer ended before this block did

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def whole(self) -> bool:
        """Of a call: whether its text is a JSON object, as that of one that was cut is not."""
        try:
            return isinstance(orjson.loads(self.text), dict)
        except orjson.JSONDecodeError:
            return False


class Change(NamedTuple):
    """What happened to a block; `text` is what it grew by."""

    what: Literal["begun", "grown", "ended"]
    block: Block
    text: str = ""


class Blocks:
    """Turns parts into changes. At most one block is open at a time."""

    def __init__(self) -> None:
        self.all: list[Block] = []
        self._open: Block | None = None

    def add(self, parts: Iterable[Part]) -> Iterator[Change]:
        for part in parts:
            if isinstance(part, CallBegun):
                yield from self._begin("call", part.id, part.name)
            elif part.text:
                yield from self._grow(part)

    def end(self, *, cut: bool) -> Iterator[Change]:
        """`cut`: the answer was as long as it might be. A call without its last bracket is cut in any case."""
        block = self._open
        if block is not None:
            block.cut = cut or (block.kind == "call" and not block.whole)
        yield from self._close()

    def _grow(self, part: Content | Reasoning | CallArguments) -> Iterator[Change]:
        kind = _KINDS[type(part)]
        if self._open is None or self._open.kind != kind:
            yield from self._begin(kind)
        block = self.all[-1]
        block.pieces.append(part.text)
        yield Change("grown", block, part.text)

    def _begin(self, kind: Kind, call_id: str = "", name: str = "") -> Iterator[Change]:
        yield from self._close()
        self._open = Block(len(self.all), kind, call_id, name)
        self.all.append(self._open)
        yield Change("begun", self._open)

    def _close(self) -> Iterator[Change]:
        if self._open is not None:
            block, self._open = self._open, None
            yield Change("ended", block)


_KINDS: dict[type[Part], Kind] = {Content: "text", Reasoning: "thinking", CallArguments: "call"}


def merged(parts: Iterable[Part]) -> list[Part]:
    """The same with neighbours of one kind joined, so that what came together is sent together."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Content) and isinstance(last, Content):
            joined[-1] = Content(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            joined[-1] = Reasoning(last.text + part.text)
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments) and part.index == last.index:
            joined[-1] = CallArguments(part.index, last.text + part.text)
        else:
            joined.append(part)
    return joined
