"""A response of /v1/responses: its object, and its stream of events."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import uuid4

import orjson

from deltaserve.errors import BadRequest, DeltaserveError
from deltaserve.server.answers.parts import Content, Part
from deltaserve.server.api.doors.blocks import Blocks, Change, merged
from deltaserve.server.api.doors.responses.items import Items
from deltaserve.server.api.doors.responses.schema import ResponsesRequest
from deltaserve.server.api.requests.naming import plain

Json = dict[str, Any]
# What OpenAI's clients know as the code of an error inside a response.
_SERVER_ERROR: Final = "server_error"


class ResponseWriter:
    """Parts in, events out; `document` is the whole answer, which the last event carries too."""

    def __init__(self, request: ResponsesRequest) -> None:
        self._echo = _echo(request)
        self._id, self._created = f"resp_{uuid4().hex}", int(time.time())
        self._blocks, self._items = Blocks(), Items()
        self._events = 0
        self._pending: list[bytes] = []  # log-probabilities of tokens whose text has not come yet
        self._text_comes = False  # with these parts: theirs are a message's, which alone shows them

    def know(self, **fields: Any) -> None:
        """Fields that the request alone does not tell: model, system_fingerprint, temperature, top_p."""
        self._echo.update(fields)

    def opening(self) -> bytes:
        response = self._response("in_progress")
        return b"".join(self._frame(f"response.{name}", {"response": response}) for name in ("created", "in_progress"))

    def add(self, parts: Iterable[Part], logprobs: Sequence[bytes] = ()) -> bytes:
        """Events of these parts; `logprobs` are entries of the tokens that led to them."""
        self._pending += logprobs
        said = merged(parts)
        self._text_comes = any(isinstance(part, Content) for part in said)
        return b"".join(map(self._changed, self._blocks.add(said)))

    def end(self, *, cut: bool) -> bytes:
        """Ends the item that is open. `cut`: by the limit on tokens."""
        return b"".join(map(self._changed, self._blocks.end(cut=cut)))

    def closing(self, *, cut: bool, usage: Json, **more: Any) -> bytes:
        """The last event."""
        name = "response.incomplete" if cut else "response.completed"
        return self._frame(name, {"response": self._finished(cut, usage, more)})

    def document(self, *, cut: bool, usage: Json, **more: Any) -> bytes:
        return orjson.dumps(self._finished(cut, usage, more))

    def failed(self, error: DeltaserveError) -> bytes:
        """The last events of a stream that fails."""
        message, code = plain(error.message), error.code or error.type
        told = self._frame("error", {"code": code, "message": message, "param": error.param})
        response = self._response("failed", error={"code": _SERVER_ERROR, "message": message})
        return told + self._frame("response.failed", {"response": response})

    def _finished(self, cut: bool, usage: Json, more: Json) -> Json:
        why = {"incomplete_details": {"reason": "max_output_tokens"}} if cut else {"completed_at": int(time.time())}
        return self._response("incomplete" if cut else "completed", usage=usage, **why, **more)

    def _response(self, status: str, **more: Any) -> Json:
        constant = {"id": self._id, "object": "response", "created_at": self._created, "status": status}
        empty = {"error": None, "incomplete_details": None, "usage": None, "completed_at": None}
        return {**constant, **empty, **self._echo, "output": self._items.json(), **more}

    def _changed(self, change: Change) -> bytes:
        logprobs: list[bytes] = []
        if change.what == "grown" and (change.block.kind == "text" or not self._text_comes):
            logprobs, self._pending = self._pending, []
        return b"".join(self._frame(name, fields) for name, fields in self._items.events(change, logprobs))

    def _frame(self, name: str, fields: Json) -> bytes:
        event = orjson.dumps({"type": name, "sequence_number": self._events, **fields})
        self._events += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), event)


def _as_sent(value: Any, name: str) -> orjson.Fragment:
    """Its JSON, written once; whole numbers of any length stay what they are. Raises BadRequest."""
    try:
        return orjson.Fragment(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        raise BadRequest(f"`{name}` holds a number that is not finite.", param=name) from None


def _echo(request: ResponsesRequest) -> Json:
    """What a response repeats of its request."""
    return {
        "background": False,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": request.model,
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": _as_sent({"summary": None, "effort": None, **(request.reasoning or {})}, "reasoning"),
        "store": False,
        "text": _as_sent({"format": {"type": "text"}, **(request.text or {})}, "text"),
        "tool_choice": _as_sent(request.tool_choice or "auto", "tool_choice"),
        "tools": _as_sent(request.tools or [], "tools"),
        "top_logprobs": request.top_logprobs or 0,
        "truncation": "disabled",
        "user": request.user,
    }
