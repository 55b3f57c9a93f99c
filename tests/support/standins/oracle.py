"""The model behind every stand-in: a fixed distribution after every prefix, and every kind of token."""

import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.support.table_tokenizer import TableTokenizer

WORDS: Final = (b" the", b"ing", b" caf", b"\n\n", b"  ", b"The", b" Paris", b" is")
SPECIALS: Final = (b"<|endoftext|>", b"<|im_end|>", b"<|note|>")
END: Final = 256 + len(WORDS)  # what the pair's files name as the end
SIZE: Final = END + len(SPECIALS)
PROMPT: Final[tuple[int, ...]] = tuple(b"Who was it? He")

# What the last token of a prefix may be: each is a way for a server, or for us, to lose or change it.
KINDS: Final[Mapping[str, tuple[int, ...]]] = {
    "a letter": (ord("x"),),
    "a word with a leading space": (256,),
    "a space": (ord(" "),),
    "two spaces": (260,),
    "a newline": (ord("\n"),),
    "an empty line": (259,),
    "half a character": (258, 0xC3),
    "a whole character of two tokens": (258, 0xC3, 0xA9),
    "a part of an emoji": (0xF0, 0x9F, 0x99),
    "a special token": (SIZE - 1,),
    "a word in two tokens that has one of its own": (ord(" "), ord("t"), ord("h"), ord("e")),
}


class OracleTokenizer(TableTokenizer):
    """Single bytes, some words, and special tokens."""

    def __init__(self) -> None:
        table = {value: bytes([value]) for value in range(256)} | dict(enumerate((*WORDS, *SPECIALS), 256))
        super().__init__(SIZE, table)

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(range(END, SIZE))

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return (END,)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """`system: question? answer. question? `, so that PROMPT is a question and the beginning of its answer."""
        behind = {"system": ": ", "user": "? ", "assistant": ". "}
        text = "".join(message["content"] + behind[message["role"]] for message in messages)
        if not add_generation_prompt and not continue_final_message and messages[-1]["role"] == "user":
            return text[:-1]
        return text[: -len(behind[messages[-1]["role"]])] if continue_final_message else text


TOKENIZER: Final = OracleTokenizer()


def logprobs(prefix: Sequence[int], temperature: float = 1.0) -> NDArray[np.float64]:
    """log p(next) after a prefix, shape [SIZE], at a temperature: any fixed function of the whole prefix."""
    return _logprobs(tuple(prefix), temperature)


@cache
def _logprobs(prefix: tuple[int, ...], temperature: float) -> NDArray[np.float64]:
    logits = np.random.default_rng(zlib.crc32(str(prefix).encode())).normal(0.0, 2.5, SIZE)
    logits[128:256] -= 3.0  # parts of characters are listed now and then
    logits /= temperature
    logits[list(range(END, SIZE))] -= 8.0  # it ends only where it is told to
    found: NDArray[np.float64] = logits - logits.max()
    found -= np.log(np.exp(found).sum())
    found.flags.writeable = False
    return found


def best(prefix: Sequence[int], k: int, temperature: float = 1.0) -> list[int]:
    """The k most probable ids after a prefix, most probable first."""
    return [int(i) for i in np.argsort(-logprobs(prefix, temperature), kind="stable")[:k]]


def readable(prefix: Sequence[int], count: int, k: int = 5) -> list[int]:
    """An answer of listed tokens, each the best one there that is visible ASCII: no server has a reason to hide it."""
    answer: list[int] = []
    while len(answer) < count:
        listed = best([*prefix, *answer], k)
        visible = [i for i in listed if 32 < i < 127 or 256 <= i < END]
        answer.append(visible[0] if visible else ord("."))
    return answer
