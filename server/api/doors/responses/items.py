"""Blocks of an answer as the output items of /v1/responses, and their changes as its events."""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import uuid4

import orjson

from deltaserve.server.api.doors.blocks import Block, Change

Json = dict[str, Any]
Event = tuple[str, Json]  # its type, and its fields but for the sequence number
_PREFIX: Final = {"text": "msg", "thinking": "rs", "call": "fc"}


class Item:
    """One output item. Log-probabilities of a message's tokens are JSON fragments, as they were spelled."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.id = f"{_PREFIX[block.kind]}_{uuid4().hex}"
        self.status = "in_progress"
        self.logprobs: list[bytes] = []

    def json(self) -> Json:
        """The item as it is now: with its text once it has ended."""
        same = {"id": self.id, "status": self.status}
        ended = self.status != "in_progress"
        if self.block.kind == "text":
            return {**same, "type": "message", "role": "assistant", "content": [self.part()] if ended else []}
        if self.block.kind == "thinking":
            return {**same, "type": "reasoning", "summary": [], "content": [self.part()] if ended else []}
        arguments = self.block.text if ended else ""
        call = {"call_id": self.block.call_id, "name": self.block.name, "arguments": arguments}
        return {**same, "type": "function_call", **call}

    def part(self) -> Json:
        """The one part of its content."""
        if self.block.kind == "thinking":
            return {"type": "reasoning_text", "text": self.block.text}
        return {
            "type": "output_text",
            "text": self.block.text,
            "annotations": [],
            "logprobs": _list(self.logprobs),
        }


def _list(fragments: Sequence[bytes]) -> orjson.Fragment:
    return orjson.Fragment(b"[%b]" % b",".join(fragments))


class Items:
    """The output of one response."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def json(self) -> list[Json]:
        return [item.json() for item in self._items]

    def events(self, change: Change, logprobs: Sequence[bytes] = ()) -> Iterator[Event]:
        """`logprobs`: of the tokens that a message grew by."""
        if change.what == "begun":
            self._items.append(Item(change.block))
        item = self._items[change.block.at]
        where = {"item_id": item.id, "output_index": change.block.at}
        if item.block.kind == "call":
            return _call_events(change, item, where)
        return _text_events(change, item, {**where, "content_index": 0}, logprobs)


def _text_events(change: Change, item: Item, where: Json, logprobs: Sequence[bytes]) -> Iterator[Event]:
    message = item.block.kind == "text"
    kind = "response.output_text" if message else "response.reasoning_text"
    if change.what == "begun":
        yield from _added(item)
        yield "response.content_part.added", {**where, "part": item.part()}
    elif change.what == "grown":
        item.logprobs += logprobs
        yield f"{kind}.delta", {**where, "delta": change.text, **({"logprobs": _list(logprobs)} if message else {})}
    else:
        part = item.part()
        shown = {"logprobs": part["logprobs"]} if message else {}
        yield f"{kind}.done", {**where, "text": part["text"], **shown}
        yield "response.content_part.done", {**where, "part": part}
        yield from _done(item)


def _call_events(change: Change, item: Item, where: Json) -> Iterator[Event]:
    """Arguments of a call that was cut are never told to be done."""
    if change.what == "begun":
        yield from _added(item)
    elif change.what == "grown":
        yield "response.function_call_arguments.delta", {**where, "delta": change.text}
    else:
        if not item.block.cut:
            done = {"name": item.block.name, "arguments": item.block.text}
            yield "response.function_call_arguments.done", {**where, **done}
        yield from _done(item)


def _added(item: Item) -> Iterator[Event]:
    yield "response.output_item.added", {"output_index": item.block.at, "item": item.json()}


def _done(item: Item) -> Iterator[Event]:
    item.status = "incomplete" if item.block.cut else "completed"
    yield "response.output_item.done", {"output_index": item.block.at, "item": item.json()}
