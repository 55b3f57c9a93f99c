"""Special tokens that somebody wrote in a chat: text there, as any other text. So are the marks of turns.

Whoever writes `<|im_end|>` in a message would else end it and go on in any role. A template makes one text of tokens
and words, so the words are veiled before it is rendered: a mark stands for each special token in them. What is seen
in the rendered text are the template's own tokens.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from os.path import commonprefix
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


class Texts:
    """Some texts, to be looked for in JSON."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.places = {text: at for at, text in enumerate(texts)}
        self.pattern = pattern_of(texts)
        self._beginnings = frozenset(text[:size] for text in texts for size in range(1, len(text)))
        self._longest = max(map(len, texts), default=0)

    def stand_in(self, value: Any) -> bool:
        """Whether one of them stands in any text of it."""
        if isinstance(value, str):
            return self.pattern.search(value) is not None
        if isinstance(value, Mapping):
            return any(self.stand_in(key) or self.stand_in(one) for key, one in value.items())
        return isinstance(value, list | tuple) and any(map(self.stand_in, value))

    def begin_at_end_of(self, text: str) -> bool:
        """Whether it ends with the beginning of one of them."""
        return any(text[-size:] in self._beginnings for size in range(1, min(self._longest, len(text) + 1)))


class Veil:
    """Marks for the special tokens in the words of one chat, which nobody can know before."""

    def __init__(self, texts: Texts) -> None:
        self._nonce = token_hex(4)
        self._texts, self._by_number = texts, [*texts.places]
        self._of_marks = re.compile(_MARK.format(self._nonce, r"(\d+)"))

    def over(self, value: Any) -> Any:
        """JSON, all of whose texts are veiled."""
        if isinstance(value, str):
            return self._texts.pattern.sub(lambda found: self._mark_of(found[0]), value)
        if isinstance(value, Mapping):
            return {self.over(key): self.over(one) for key, one in value.items()}
        return [self.over(one) for one in value] if isinstance(value, list | tuple) else value

    def ends_within(self, text: str) -> bool:
        """Whether the text ends with the beginning of a special token, which other words might complete."""
        return self._texts.begin_at_end_of(text)

    def off(self, text: str) -> str:
        """Raises BadRequest where a template has changed a mark: it cannot be taken off."""
        bare = self._of_marks.sub(lambda found: self._by_number[int(found[1])], text)
        if self._nonce in bare.casefold():
            raise BadRequest(REFUSED, param="messages")
        return bare

    def _mark_of(self, text: str) -> str:
        return _MARK.format(self._nonce, self._texts.places[text])


def pattern_of(texts: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the texts, the longest where one begins another; nothing where there are none."""
    return re.compile(_any_of(sorted(set(texts))) if texts else r"(?!)")


def _any_of(texts: list[str]) -> str:
    """An expression for sorted texts that looks at each character once: a tokenizer may have thousands of them."""
    start = commonprefix([texts[0], texts[-1]])  # noqa: RUF071 (no paths)
    rests = [text[len(start) :] for text in texts if text != start]
    further = "|".join(_any_of([*group]) for _, group in groupby(rests, key=lambda rest: rest[0]))
    whole = "?" if len(rests) < len(texts) else ""
    return re.escape(start) + (f"(?:{further}){whole}" if rests else "")


def parts_of(text: str, reserved: Mapping[int, AddedToken]) -> Iterator[int | str]:
    """The reserved tokens as ids, and the text between them, which they may strip of white space."""
    ids = {token.content: number for number, token in reserved.items()}
    end = 0
    for found in pattern_of([*ids]).finditer(text):
        number = ids[found[0]]
        before = text[end : found.start()]
        yield before.rstrip() if reserved[number].lstrip else before
        yield number
        end = found.end()
        if reserved[number].rstrip:
            end += len(text[end:]) - len(text[end:].lstrip())
    yield text[end:]


def read_as_text(backend: Backend, reserved: Mapping[int, AddedToken]) -> Backend:
    """A copy that reads the reserved tokens as text. The library's switch for that is one for all threads."""
    source = json.loads(backend.to_str())
    for token in source["added_tokens"]:
        token["special"] = token["special"] or token["id"] in reserved  # the switch is for special ones
    copy = Backend.from_str(json.dumps(source))
    copy.encode_special_tokens = True
    return copy


def encode_veiled(
    text: str, veil: Covering, backend: Backend, plain: Backend, reserved: Mapping[int, AddedToken]
) -> list[int]:
    """Ids of a rendered chat whose words are veiled. `plain` reads the reserved tokens as text.

    Raises BadRequest where the tokenizer reads a text in parts otherwise than as a whole, as then nothing is certain,
    and where its vocabulary has a reserved token as a word, which it finds in text.
    """
    parts = [part for part in parts_of(text, reserved) if part != ""]
    veiled = _encoded(parts, plain)
    if list(chain(*veiled)) != backend.encode_batch_fast([text], add_special_tokens=False)[0].ids:
        raise BadRequest(REFUSED, param="messages")
    bare = _encoded([part if isinstance(part, int) else veil.off(part) for part in parts], plain)
    if not _in_words(parts, bare, reserved) <= _in_words(parts, veiled, reserved):
        raise BadRequest(REFUSED, param="messages")
    return list(chain(*bare))


def _encoded(parts: Sequence[int | str], plain: Backend) -> list[list[int]]:
    texts = iter(plain.encode_batch_fast([part for part in parts if isinstance(part, str)], add_special_tokens=False))
    return [[part] if isinstance(part, int) else next(texts).ids for part in parts]


def _in_words(parts: Sequence[int | str], ids: Sequence[Sequence[int]], reserved: Mapping[int, AddedToken]) -> set[int]:
    """Reserved tokens that the tokenizer finds in text: the unknown word is one, elsewhere too."""
    words = (own for part, own in zip(parts, ids, strict=True) if isinstance(part, str))
    return {each for own in words for each in own if each in reserved}
