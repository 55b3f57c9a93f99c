"""DeepSeek's chat, and whoever copies it: the last message is the answer's beginning where it says `prefix`.

That is a feature of its beta address. Thinking is on unless it is switched off. No ids either way, no bias, no seed.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from deltaserve.server.upstream.dialects.chat import Chat


class DeepSeek(Chat):
    """The address is the one without `/beta`."""

    path: ClassVar[str] = "/beta/chat/completions"
    spare: ClassVar[int] = 0
    neutral: ClassVar[Mapping[str, Any]] = {"thinking": {"type": "disabled"}}
    going_on: ClassVar[Mapping[str, Any]] = {}
    prefixed: ClassVar[Mapping[str, Any]] = {"prefix": True}
    seeds: ClassVar[bool] = False
    takes_bias: ClassVar[bool] = False
