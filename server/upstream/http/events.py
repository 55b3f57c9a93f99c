"""The payloads out of a byte stream, whatever the chunking: of server-sent events, or of lines of JSON.

Split by bytes on the blank line, never by text lines: U+2028 inside a JSON string is not a line end here.
"""

from typing import Literal, Protocol

Framing = Literal["sse", "lines"]  # how an answer's events are told apart; "lines": one JSON value a line (NDJSON)

_BOM = b"\xef\xbb\xbf"
_BLANK = b"\n\n"


class EventTooLarge(ValueError):
    """One event grew past the limit."""


class Splitter(Protocol):
    """Feed chunks, get the payloads that they complete."""

    @property
    def rest(self) -> bytes:
        """What arrived after the last payload."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Payloads that `chunk` completes, in order; raises EventTooLarge."""


def splitter(framing: Framing, max_event_bytes: int) -> Splitter:
    """For one answer."""
    return (EventSplitter if framing == "sse" else LineSplitter)(max_event_bytes)


class LineSplitter:
    """Lines of JSON; empty lines, which some servers send to keep a connection alive, are left out."""

    __slots__ = ("_carried", "_max_bytes")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_bytes = max_event_bytes
        self._carried = bytearray()

    @property
    def rest(self) -> bytes:
        return bytes(self._carried)

    def feed(self, chunk: bytes) -> list[bytes]:
        self._carried += chunk
        if b"\n" not in chunk:
            self._check_size(len(self._carried))
            return []
        *lines, rest = bytes(self._carried).split(b"\n")
        self._carried = bytearray(rest)
        for line in (*lines, rest):
            self._check_size(len(line))
        return [line for line in map(bytes.strip, lines) if line]

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise EventTooLarge(f"an event larger than {self._max_bytes} bytes")


class EventSplitter:
    """Feed chunks, get the data payloads that they complete; the unfinished rest is carried over."""

    __slots__ = ("_carried", "_ended_with_cr", "_max_bytes", "_started")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_bytes = max_event_bytes
        self._carried = bytearray()
        self._ended_with_cr = False
        self._started = False

    @property
    def rest(self) -> bytes:
        """What arrived after the last blank line: a server that does not stream leaves its whole answer here."""
        return bytes(self._carried)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Payloads of the events that `chunk` completes, in order; raises EventTooLarge."""
        if self._ended_with_cr or b"\r" in chunk:
            chunk = self._unify_line_ends(chunk)
        carried = self._carried
        if not carried and chunk.endswith(_BLANK):
            blocks = chunk.split(_BLANK)  # the usual case: whole events, nothing to copy
        else:
            searched = max(0, len(carried) - 1)  # the first newline of a blank line may be the carried one
            carried += chunk
            if carried.find(_BLANK, searched) < 0:
                self._check_size(len(carried) - 1)  # the last byte may be half of the blank line
                return []
            blocks = bytes(carried).split(_BLANK)
        self._carried = bytearray(blocks.pop())
        return [payload for block in blocks if block and (payload := self._payload(block)) is not None]

    def _unify_line_ends(self, chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        if self._ended_with_cr:
            chunk = chunk.removeprefix(b"\n")  # the second half of a \r\n that was cut in two
        self._ended_with_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise EventTooLarge(f"an event larger than {self._max_bytes} bytes")

    def _payload(self, block: bytes) -> bytes | None:
        """The data of one event, or None when it has none (comments, other fields)."""
        self._check_size(len(block))
        if not self._started:
            self._started = True
            block = block.removeprefix(_BOM)
        if block.startswith(b"data: ") and b"\n" not in block:
            return block[6:]
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        return b"\n".join(lines) if lines else None
