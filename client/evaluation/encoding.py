"""Token ids of questions and answers: by the server's own routes, or by a tokenizer folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from deltaserve.client.calls import Ending, Message
from deltaserve.client.client import AsyncClient
from deltaserve.client.console.terminal import Status, Stop
from deltaserve.client.errors import Refused
from deltaserve.client.results import TokenizerInfo
from deltaserve.offset_models.tokenizer.continuation import (
    ANCHORS,
    Answered,
    answered,
    behind,
    behind_anchors,
    behind_start,
    completed,
    whole_text,
)

if TYPE_CHECKING:
    from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

# Asked of a server to learn what its template writes around an answer's words.
_QUESTION: Final = "Which word?"
_WORDS: Final = ("Yes", "No")  # they begin with no common token


class Encoder(Protocol):
    """`answered` encodes a question as it is served, and each answer behind it; `continued` does so with running text,
    whose prompt may be empty; `text` is what ids say, and `end` is what ends an answer.
    """

    async def answered(self, question: str, answers: Sequence[str]) -> list[Answered]: ...
    async def continued(self, prompt: str, texts: Sequence[str]) -> list[Answered]: ...
    async def text(self, ids: Sequence[int]) -> str: ...
    async def end(self) -> list[int]:
        """One id, or none where the tokenizer has no end token."""
        ...


@dataclass(slots=True)
class ServerEncoder:
    """Asks POST /tokenize, which renders chats as they are served. The rest is as in `tokenizer.continuation`."""

    client: AsyncClient
    model: str
    _lead: list[int] | None = field(default=None, init=False)

    async def answered(self, question: str, answers: Sequence[str]) -> list[Answered]:
        prompt = await self._chat("opened", question)
        return [await self._answered(prompt, question, answer) for answer in answers]

    async def continued(self, prompt: str, texts: Sequence[str]) -> list[Answered]:
        served, plain = await self._text(prompt, special=True), await self._text(prompt)
        return [await self._continued(prompt, served, plain, text) for text in texts]

    async def text(self, ids: Sequence[int]) -> str:
        return await self.client.detokenize(ids, self.model)

    async def end(self) -> list[int]:
        """Raises Stop where the server does not tell its tokenizer."""
        info = await self._info()
        if info.turn_end_token is not None:
            return await self._text(info.turn_end_token)
        for more in ((), (_QUESTION,)):  # some templates end a turn only where another follows
            mark = await self._mark_behind(info, more)
            if mark is not None:
                return [mark]
        return [] if info.eos_token is None else await self._text(info.eos_token)

    async def _answered(self, prompt: list[int], question: str, answer: str) -> Answered:
        try:
            ids = behind(prompt, await self._chat("begun", question, answer))
        except Refused as refusal:
            if refusal.status != 400:
                raise
            ids = None  # a template that rewrites such an answer
        if ids is None:
            return Answered(prompt, await self._alone(answer))
        lead = await self._written_ahead()
        words = behind(lead, ids)
        return Answered(prompt, ids) if words is None else Answered([*prompt, *lead], words)

    async def _continued(self, prompt: str, served: list[int], plain: list[int], text: str) -> Answered:
        whole = await self._text(prompt + text)
        if not prompt:
            return behind_start(whole, await self._text(text, special=True))
        ids = behind(plain, whole)
        return Answered(served, await self._alone(text) if ids is None else ids)

    async def _written_ahead(self) -> list[int]:
        """What the template writes between the prompt and an answer's words, without the white space behind it."""
        if self._lead is None:
            prompt = await self._chat("opened", _QUESTION)
            one, other = [behind(prompt, await self._chat("begun", _QUESTION, word)) or [] for word in _WORDS]
            same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
            self._lead = [token for token, _ in same]
            while self._lead and not (await self.client.detokenize(self._lead[-1:], self.model)).strip():
                self._lead.pop()
        return self._lead

    async def _alone(self, text: str) -> list[int]:
        """Ids of an answer that cannot be encoded behind its prompt: behind an anchor, else of the bare text."""
        for anchors in (ANCHORS[:1], ANCHORS[1:]):  # the first one almost always does
            ids = {part: await self._text(part) for anchor in anchors for part in (anchor, anchor + text)}
            for answer_ids in behind_anchors(ids.__getitem__, text, anchors):
                return answer_ids
        return await self._text(text)

    async def _mark_behind(self, info: TokenizerInfo, more: Sequence[str]) -> int | None:
        """The added token behind an answer's words, white space aside, as `Tokenizer.turn_end_id` finds it."""
        try:
            begun = await self._chat("begun", _QUESTION, _WORDS[0])
            closed = await self._chat("closed", _QUESTION, _WORDS[0], *more)
        except Refused as refusal:
            if refusal.status != 400:
                raise
            return None
        for token in behind(begun, closed) or ():
            if token in info.added_tokens:
                begins = info.added_tokens[token] == info.bos_token != info.eos_token
                return None if begins else token
            if (await self.client.detokenize([token], self.model)).strip():
                return None
        return None

    async def _info(self) -> TokenizerInfo:
        try:
            return await self.client.tokenizer_info()
        except Refused as refusal:
            if refusal.status not in (404, 405):
                raise
            root = self.client.address.root
            message = f"{root} does not tell its tokenizer (GET /tokenizer_info); give its folder with --tokenizer."
            raise Stop(message, Status.REFUSED) from None

    async def _chat(self, ending: Ending, *turns: str) -> list[int]:
        roles = ("user", "assistant", "user")
        messages: list[Message] = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
        return [*(await self.client.tokenize(messages, self.model, ending=ending)).ids]

    async def _text(self, text: str, *, special: bool = False) -> list[int]:
        return [*(await self.client.tokenize(text, self.model, add_special_tokens=special)).ids] if text else []


class LocalEncoder:
    """Uses the tokenizer in this process, by the functions that training uses."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises BadCheckpoint."""
        # Reading templates takes transformers: seconds, only if needed.
        from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

        return cls(Tokenizer.load(folder))

    async def answered(self, question: str, answers: Sequence[str]) -> list[Answered]:
        """Raises BadRequest."""
        chat = [{"role": "user", "content": question}]
        return [answered(self._tokenizer, chat, answer) for answer in answers]

    async def continued(self, prompt: str, texts: Sequence[str]) -> list[Answered]:
        """Raises BadRequest."""
        tokenizer = self._tokenizer
        return [completed(tokenizer, prompt, text) if prompt else whole_text(tokenizer, text) for text in texts]

    async def text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special=True)

    async def end(self) -> list[int]:
        return [*self._tokenizer.answer_end]
