"""A message of /v1/messages: its object, and its stream of events."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import uuid4

import orjson

from deltaserve.errors import DeltaserveError
from deltaserve.server.answers.parts import Part
from deltaserve.server.api.doors.blocks import Block, Blocks, Change, merged
from deltaserve.server.api.errors import anthropic_error

Json = dict[str, Any]
_EMPTY: Final[dict[str, Json]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
_DELTAS: Final = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "call": ("input_json_delta", "partial_json"),
}


class MessageWriter:
    """Parts in, events out; `document` is the whole answer."""

    def __init__(self, model: str, fingerprint: str, prompt_tokens: int) -> None:
        self._blocks = Blocks()
        self._head: Json = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "system_fingerprint": fingerprint,
        }
        self._prompt_tokens = prompt_tokens

    def opening(self) -> bytes:
        usage = {"input_tokens": self._prompt_tokens, "output_tokens": 0}
        message = {**self._head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return _frame("message_start", {"message": message})

    def add(self, parts: Iterable[Part]) -> bytes:
        return b"".join(map(_changed, self._blocks.add(merged(parts))))

    def end(self, *, cut: bool) -> bytes:
        """Ends the block that is open. `cut`: by the limit on tokens."""
        return b"".join(map(_changed, self._blocks.end(cut=cut)))

    def closing(self, stop: Json, usage: Json, **more: Any) -> bytes:
        """The last events. `stop`: stop_reason and stop_sequence."""
        return _frame("message_delta", {"delta": stop, "usage": usage, **more}) + _frame("message_stop", {})

    def document(self, stop: Json, usage: Json, **more: Any) -> bytes:
        content = [block for block in map(_block, self._blocks.all) if block is not None]
        return orjson.dumps({**self._head, "content": content, **stop, "usage": usage, **more})


def failed(error: DeltaserveError, request_id: str | None) -> bytes:
    """The last event of a stream that fails."""
    return b"event: error\ndata: %b\n\n" % orjson.dumps(anthropic_error(error, request_id))


def stop_of(finish_reason: str | None, stop_reason: int | str | None) -> Json:
    """Why the answer ended. Stop tokens that were named by their ids are no sequences."""
    if finish_reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if finish_reason == "tool_calls":
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if isinstance(stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_reason}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _changed(change: Change) -> bytes:
    block, index = change.block, {"index": change.block.at}
    if change.what == "begun":
        return _frame("content_block_start", {**index, "content_block": _EMPTY.get(block.kind) or _call(block, {})})
    if change.what == "ended":
        return _frame("content_block_stop", index)
    kind, name = _DELTAS[block.kind]
    return _frame("content_block_delta", {**index, "delta": {"type": kind, name: change.text}})


def _block(block: Block) -> Json | None:
    """A block of a whole message. A call that was cut has no input, so it is left out."""
    if block.kind != "call":
        return {**_EMPTY[block.kind], block.kind: block.text}
    return None if block.cut or not block.whole else _call(block, orjson.Fragment(block.text.encode()))


def _call(block: Block, arguments: Json | orjson.Fragment) -> Json:
    return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": arguments}


def _frame(name: str, fields: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))
