"""Messages over a unix stream socket: those of one turn of the event loop in one frame and one write.

A frame is the length of its body (4 bytes, little-endian) and the body, a msgpack list of messages. A stream socket
rather than a message queue: that it ends is how either side learns that the other one died.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from deltaserve.server.processes.wire.messages import Message

M = TypeVar("M")
_LENGTH_BYTES: Final = 4
_LONGEST_FRAME: Final = 1 << 30  # bytes


class Decoder(Protocol[M]):
    def decode(self, frame: bytes | memoryview, /) -> list[M]: ...


class Wire(asyncio.Protocol, Generic[M]):
    """One end of a connection. `received` gets each message, `lost` hears once that the connection has ended.

    `unsent` hears of a message that no frame can hold (a number beyond 64 bits), and why; the others go all the same.
    """

    def __init__(
        self,
        decoder: Decoder[M],
        received: Callable[[M], None],
        lost: Callable[[], None],
        unsent: Callable[[Message, Exception], None],
    ) -> None:
        self._decoder = decoder
        self._received = received
        self._lost = lost
        self._unsent = unsent
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._pending: list[Message] = []
        self._buffer = bytearray()

    def send(self, message: Message) -> None:
        """With the other messages of this turn. On a connection that has ended it is lost, like its reply."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(message)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Without sending what waits: the other end takes nothing any more."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream socket

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH_BYTES:
            begin = start + _LENGTH_BYTES
            length = int.from_bytes(buffer[start:begin], "little")
            if length > _LONGEST_FRAME:
                self.close()
                return
            if len(buffer) < begin + length:
                break
            messages = self._decoder.decode(bytes(buffer[begin : begin + length]))
            start = begin + length
            for message in messages:
                self._received(message)
        del buffer[:start]

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._lost()

    def _flush(self) -> None:
        messages, self._pending = self._pending, []
        if self._transport is not None and not self._transport.is_closing():
            body = self._body(messages)
            self._transport.write(len(body).to_bytes(_LENGTH_BYTES, "little") + body)

    def _body(self, messages: list[Message]) -> bytes:
        try:
            return self._encoder.encode(messages)
        except Exception:  # noqa: BLE001  (of one, which is found and told)
            return self._encoder.encode([one for one in messages if self._can_be_sent(one)])

    def _can_be_sent(self, message: Message) -> bool:
        try:
            self._encoder.encode(message)
        except Exception as error:  # noqa: BLE001  (told)
            self._unsent(message, error)
            return False
        return True


def _plain(value: Any) -> Any:
    """numpy's numbers, and mappings that are no dict."""
    if hasattr(value, "item"):
        return value.item()
    return dict(value)
