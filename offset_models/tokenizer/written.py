"""Special tokens that somebody wrote in a chat: text there, as any other text.

Whoever writes `<|im_end|>` in a message would else end it and go on in any role. A template makes one text of tokens
and words, so the words are veiled before it is rendered: a mark stands for each special token in them. What is seen
in the rendered text are the template's own tokens.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from secrets import token_hex
from typing import Any, Final, Protocol

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from deltaserve.errors import BadRequest

_MARK: Final = "qzw{}x{}wzq"  # begun and ended by a letter: templates trim
REFUSED: Final = (
    "A message holds the text of one of the model's special tokens, and this tokenizer cannot write it as text: "
    "leave it out, or let the operator set message_special_tokens = true."
)


class Covering(Protocol):
    """What a veil is for: it can be taken off."""

    def off(self, text: str) -> str: ...


class Veil:
    """Marks for the special tokens in the words of one chat, which nobody can know before."""

    def __init__(self, texts: Sequence[str]) -> None:
        nonce = token_hex(4)
        self._marks = {text: _MARK.format(nonce, at) for at, text in enumerate(texts)}
        self._texts = {mark: text for text, mark in self._marks.items()}
        self._of_texts = pattern_of(texts)
        self._of_marks = pattern_of([*self._texts])

    def over(self, value: Any) -> Any:
        """JSON, all of whose texts are veiled."""
        if isinstance(value, str):
            return self._of_texts.sub(lambda found: self._marks[found[0]], value)
        if isinstance(value, Mapping):
            return {self.over(key): self.over(one) for key, one in value.items()}
        return [self.over(one) for one in value] if isinstance(value, list | tuple) else value

    def off(self, text: str) -> str:
        return self._of_marks.sub(lambda found: self._texts[found[0]], text)


class Texts:
    """Some texts, to be looked for in JSON."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._pattern = pattern_of(texts)

    def stand_in(self, value: Any) -> bool:
        """Whether one of them stands in any text of it."""
        if isinstance(value, str):
            return self._pattern.search(value) is not None
        if isinstance(value, Mapping):
            return any(self.stand_in(key) or self.stand_in(one) for key, one in value.items())
        return isinstance(value, list | tuple) and any(map(self.stand_in, value))


def pattern_of(texts: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the texts, the longest where one begins another; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def parts_of(text: str, added: Mapping[int, AddedToken]) -> Iterator[int | str]:
    """Special tokens as ids, and the text between them, which they may strip of white space."""
    ids = {token.content: number for number, token in added.items() if token.special}
    end = 0
    for found in pattern_of([*ids]).finditer(text):
        number = ids[found[0]]
        before = text[end : found.start()]
        yield before.rstrip() if added[number].lstrip else before
        yield number
        end = found.end()
        if added[number].rstrip:
            end += len(text[end:]) - len(text[end:].lstrip())
    yield text[end:]


def encode_veiled(
    text: str, veil: Covering, backend: Backend, plain: Backend, added: Mapping[int, AddedToken]
) -> list[int]:
    """Ids of a rendered chat whose words are veiled. `plain` reads special tokens as text.

    Raises BadRequest where the tokenizer reads a text in parts otherwise than as a whole: then nothing is certain.
    """
    parts = list(parts_of(text, added))
    whole = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    if _encoded(parts, plain) != whole:
        raise BadRequest(REFUSED, param="messages")
    return _encoded([part if isinstance(part, int) else veil.off(part) for part in parts], plain)


def _encoded(parts: Sequence[int | str], plain: Backend) -> list[int]:
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
        elif part:
            ids += plain.encode_batch_fast([part], add_special_tokens=False)[0].ids
    return ids
