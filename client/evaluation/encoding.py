"""Texts as the ids that a server would see: by its own routes, or by a tokenizer folder for servers without them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from client.client import AsyncClient
from client.errors import Refused
from client.terminal import Status, Stop

if TYPE_CHECKING:
    from offset_models.tokenizer import Tokenizer


class Encoder(Protocol):
    """`chat` renders one question up to where the answer begins, as serving does; `text` adds no special tokens."""

    async def chat(self, question: str) -> list[int]: ...
    async def text(self, text: str) -> list[int]: ...
    async def end(self) -> list[int]:
        """What ends an answer: one id, or none where the tokenizer has no end token."""
        ...


@dataclass(frozen=True, slots=True)
class ServerEncoder:
    """POST /tokenize renders with the very function that serves chats."""

    client: AsyncClient
    model: str

    async def chat(self, question: str) -> list[int]:
        return [*(await self.client.tokenize([{"role": "user", "content": question}], self.model)).ids]

    async def text(self, text: str) -> list[int]:
        return [*(await self.client.tokenize(text, self.model, add_special_tokens=False)).ids]

    async def end(self) -> list[int]:
        """Raises Stop where the server does not tell its tokenizer."""
        try:
            info = await self.client.tokenizer_info()
        except Refused as refusal:
            if refusal.status not in (404, 405):
                raise
            root = self.client.address.root
            said = f"{root} does not tell its tokenizer (GET /tokenizer_info); give its folder with --tokenizer."
            raise Stop(said, Status.REFUSED) from None
        end = info.turn_end_token or info.eos_token
        return [] if end is None else await self.text(end)


class LocalEncoder:
    """The same functions of the same tokenizer, here."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises BadCheckpoint."""
        from offset_models.tokenizer import Tokenizer  # reading templates takes transformers: seconds, only if needed

        return cls(Tokenizer.load(folder))

    async def chat(self, question: str) -> list[int]:
        return self._tokenizer.encode(self._tokenizer.render_chat([{"role": "user", "content": question}]))

    async def text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    async def end(self) -> list[int]:
        return self._end

    @cached_property
    def _end(self) -> list[int]:
        turn_end = self._tokenizer.turn_end_id
        return [*self._tokenizer.eos_ids[:1]] if turn_end is None else [turn_end]
