"""The tokens by which a chat template tells whose words follow. Not all of them are special: DeepSeek's are not."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.thinking import FORMATS

_WORDS: Final = "These7words7are7said"  # no template holds them
_CHATS: Final = (("user",), ("user", "assistant", "user"), ("system", "user", "assistant", "user"))
_REASONING: Final = frozenset(mark for one in FORMATS for mark in one.markers)  # a template may look for them in words


def turn_marks(
    render: Callable[[Sequence[Mapping[str, Any]]], str], encode: Callable[[str], list[int]], added: Mapping[int, str]
) -> frozenset[int]:
    """Added tokens that stand around the words of chats, the marks of reasoning aside. `added`: texts by id."""
    seen = (number for text in _rendered(render) for part in re.split(_WORDS, text) for number in encode(part))
    return frozenset(number for number in seen if number in added and added[number] not in _REASONING)


def _rendered(render: Callable[[Sequence[Mapping[str, Any]]], str]) -> Iterator[str]:
    for roles in _CHATS:
        try:
            yield render([{"role": role, "content": _WORDS} for role in roles])
        except BadRequest:
            continue  # there is no template, or none for these roles
