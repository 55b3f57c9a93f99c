"""Pieces → wire bytes. A whole answer is a streamed one that is flushed once: both come from the same fragments."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from deltaserve.server.api.replies.explain import ExplainRows
from deltaserve.server.api.replies.tokens import Logprobs
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.decoding.stream import Piece


@dataclass(slots=True)
class ChoiceBuffer:
    """What there is of one choice and has not been sent yet."""

    index: int
    logprobs: Logprobs
    with_ids: bool
    explain: ExplainRows | None = None
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_ids_sent: bool = False

    def add(self, piece: Piece) -> None:
        self.text.append(piece.text)
        self.logprobs.add(piece.prompt)
        self.logprobs.add(piece.steps)
        if self.explain is not None:
            self.explain.add(piece.steps)
        if self.with_ids:
            self.token_ids.extend(step.token_id for step in piece.steps)
        self.finish_reason, self.stop_reason = piece.finish_reason, piece.stop_reason

    def take_text(self) -> bytes:
        text = orjson.dumps("".join(self.text))
        self.text.clear()
        return text

    def take_rest(self) -> bytes:
        """Logprobs, the reasons, ids and `explain`: fields that both kinds of answer and both ways of sending share."""
        ids = b',"token_ids":' + orjson.dumps(self.token_ids) if self.with_ids else b""
        self.token_ids.clear()
        rows = b"" if self.explain is None else b',"explain":' + self.explain.flush()
        return b'"logprobs":%b,"finish_reason":%b,"stop_reason":%b%b%b' % (
            self.logprobs.flush(),
            orjson.dumps(self.finish_reason),
            orjson.dumps(self.stop_reason),
            ids,
            rows,
        )


class Envelope:
    """The constant fields around choices: id, object, created, model, system_fingerprint."""

    def __init__(self, prefix: str, kind: str, model: str, fingerprint: str) -> None:
        self.head = b'{"id":"%b-%b","object":%b,"created":%d,"model":%b,"system_fingerprint":%b,"choices":[' % (
            prefix.encode(),
            uuid.uuid4().hex.encode(),
            orjson.dumps(kind),
            int(time.time()),
            orjson.dumps(model),
            orjson.dumps(fingerprint),
        )
        self._frame_head = b"data: " + self.head

    def document(self, choices: Sequence[bytes], usage: Usage, more: bytes = b"") -> bytes:
        return b'%b%b],"usage":%b%b}' % (self.head, b",".join(choices), usage.json(), more)

    def frame(self, choice: bytes, more: bytes = b"") -> bytes:
        """One server-sent event."""
        return b"%b%b]%b}\n\n" % (self._frame_head, choice, more)
