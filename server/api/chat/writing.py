"""A chat's choices as OpenAI's JSON."""

from collections.abc import Sequence

import orjson

from deltaserve.server.api.chat.prepared import PreparedChat
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.explain import ExplainRows
from deltaserve.server.api.replies.parts import PartsBuffer
from deltaserve.server.api.replies.replies import Reply
from deltaserve.server.api.replies.tokens import ChatLogprobs, NoLogprobs
from deltaserve.server.api.replies.writers import ChoiceBuffer, Envelope
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.serving.ports import Version


def chat_reply(body: ChatRequest, chat: PreparedChat, exchange: Exchange, version: Version) -> "ChatReply":
    """Who writes this chat."""
    serving = exchange.serving
    kind = "chat.completion.chunk" if body.stream else "chat.completion"
    envelope = Envelope("chatcmpl", kind, body.model or serving.backends.served_name, serving.fingerprint(version))
    buffers = _buffers(body, chat, exchange, version)
    if chat.parsed:
        return ParsedReply(exchange, envelope, chat, buffers)
    return ChatReply(exchange, envelope, chat.choices, buffers, chat.usage)


def _buffers(body: ChatRequest, chat: PreparedChat, exchange: Exchange, version: Version) -> list[ChoiceBuffer]:
    spelling = exchange.spellings.of(version, body.return_tokens_as_token_ids)
    kind = PartsBuffer if chat.parsed else ChoiceBuffer
    return [
        kind(
            choice.index,
            ChatLogprobs(spelling) if body.logprobs else NoLogprobs(),
            body.return_token_ids,
            ExplainRows(version.tokenizer) if body.explain else None,
        )
        for choice in chat.choices
    ]


class ChatReply(Reply):
    """Text alone: a streamed choice has a `delta`, a whole one a `message`."""

    nothing = b'""'  # the content of a choice that has said nothing so far

    def opening(self) -> bytes:
        """The role of every choice; ahead of the first token, never alone."""
        roles = [
            b'{"index":%d,"delta":{"role":"assistant","content":%b},"logprobs":null,"finish_reason":null}'
            % (buffer.index, self.nothing)
            for buffer in self.buffers
        ]
        usage = b',"usage":null' if self._request.usage_chunk else b""
        return b"".join(
            self.envelope.frame(role, usage + (b"" if at else self._prompt_ids())) for at, role in enumerate(roles)
        )

    def delta(self, buffer: ChoiceBuffer) -> bytes:
        return b'{"index":%d,"delta":{"content":%b},%b}' % (buffer.index, buffer.take_text(), buffer.take_rest())

    def choice(self, buffer: ChoiceBuffer) -> bytes:
        return b'{"index":%d,"message":{"role":"assistant","content":%b,"refusal":null},%b}' % (
            buffer.index,
            buffer.take_text(),
            buffer.take_rest(),
        )

    def document(self) -> bytes:
        return self.envelope.document([self.choice(buffer) for buffer in self.buffers], self.usage, self._prompt_ids())

    def _prompt_ids(self) -> bytes:
        if not self._request.return_token_ids:
            return b""
        return b',"prompt_token_ids":' + orjson.dumps(list(self.choices[0].prompt_ids))


class ParsedReply(ChatReply):
    """Text, reasoning and calls. A chunk has one of them; what all chunks share comes with the last of a batch."""

    nothing = b"null"

    def __init__(
        self, exchange: Exchange, envelope: Envelope, chat: PreparedChat, buffers: Sequence[ChoiceBuffer]
    ) -> None:
        super().__init__(exchange, envelope, chat.choices, buffers, chat.usage)
        self._chat = chat

    def add(self, index: int, piece: Piece) -> ChoiceBuffer:
        buffer = self._buffer(index)
        buffer.add(piece)
        buffer.say(self._chat.read(index, piece))
        buffer.finish_reason = self._chat.readers[index].finish_reason
        return buffer

    def frame(self, buffer: ChoiceBuffer) -> bytes:
        """One chunk for each part; none while what came is not certain yet."""
        parsed, usage = self._buffer(buffer.index), self._usage_so_far()
        deltas = parsed.take_deltas()
        if not deltas:
            return b""
        last = deltas.pop()
        frames = [self.envelope.frame(_CHOICE % (parsed.index, delta, parsed.no_rest()), usage) for delta in deltas]
        frames.append(self.envelope.frame(_CHOICE % (parsed.index, last, parsed.take_rest()), usage))
        return b"".join(frames)

    def choice(self, buffer: ChoiceBuffer) -> bytes:
        message = self._buffer(buffer.index).take_message()
        return b'{"index":%d,"message":%b,%b}' % (buffer.index, message, buffer.take_rest())

    def _buffer(self, index: int) -> PartsBuffer:
        buffer = self.buffers[index]
        assert isinstance(buffer, PartsBuffer)
        return buffer


_CHOICE = b'{"index":%d,"delta":%b,%b}'
