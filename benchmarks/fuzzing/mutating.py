"""Inputs made of good ones: bytes flipped, cut, doubled and joined, and JSON values in each other's places."""

import json
import random
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

# What parsers trip over, as text: numbers, words, escapes, openings and ends.
WORDS: Final = (
    "NaN", "-0", "1e400", "-1e-400", "9223372036854775808", "0.1", "true", "null", '""', "{}", "[]", "[[", '{"', "}}",
    "]]", ",", ":", '"', "\\", "\\u0022", "\\ud800", "\\u0000", "data:", "data: ", "event:", "id:", ": ", "[DONE]",
    "\r", "\r\n\r\n", "\n\n", "\ufeff", "\u2028", "é", "漢", "\x00", "token_id:5", "token_id:-1",
)  # fmt: skip
VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, 5e-324, -9999.0, "", "a", "é漢",
    "token_id:5", "\x00", "x" * 300, [], {}, [[]], [None], {"a": 1}, {"": {}}, [1, "a", None, {}], "1", "true", "../a",
)  # fmt: skip
_DEEP: Final = (3, 70, 300, 1100)


class Mutator:
    """Draws inputs; the same seed draws the same ones."""

    def __init__(self, seeds: Sequence[bytes], seed: int, *, of_json: bool) -> None:
        self._seeds = [*seeds]
        self._values = [json.loads(one) for one in seeds] if of_json else []
        self._chance = random.Random(seed)
        self._words = [word.encode() for word in WORDS]

    @property
    def chance(self) -> random.Random:
        """For what else of a case is drawn."""
        return self._chance

    def drawn(self) -> bytes:
        """The next input."""
        chance = self._chance
        if self._values and chance.random() < 0.7:
            raw = self._spoilt_json(deepcopy(chance.choice(self._values)))
            return raw if chance.random() < 0.8 else self._spoilt(raw)
        return self._spoilt(chance.choice(self._seeds))

    def _spoilt(self, raw: bytes) -> bytes:
        data = bytearray(raw)
        for _ in range(1 + int(self._chance.expovariate(0.7))):
            self._spoil(data)
        return bytes(data)

    def _spoil(self, data: bytearray) -> None:
        chance = self._chance
        at, kind = chance.randrange(len(data) + 1), chance.randrange(8)
        upto = min(len(data), at + 1 + int(chance.expovariate(0.1)))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at:upto]
        elif kind == 2:
            data[at:at] = data[at:upto]
        elif kind == 3:
            data[at:at] = chance.choice(self._words)
        elif kind == 4:
            data[at:upto] = chance.choice(self._words)
        elif kind == 5:
            data[at:] = b""
        elif kind == 6:
            other = chance.choice(self._seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 5)))

    def _spoilt_json(self, value: Any) -> bytes:
        """One to a few of its values are others; now and then very deep, or with a name twice."""
        chance = self._chance
        for _ in range(1 + int(chance.expovariate(0.8))):
            value = self._replaced(value)
        compact = (",", ":") if chance.random() < 0.5 else None
        text = json.dumps(value, ensure_ascii=chance.random() < 0.5, separators=compact)
        fate = chance.random()
        if fate < 0.02:
            deep = chance.choice(_DEEP)
            return text.replace("1", "[" * deep + "1" + "]" * deep, 1).encode("utf-8", "surrogatepass")
        if fate < 0.06 and text.startswith("{") and len(text) > 2:
            return f"{{{text[1:-1]}, {text[1:]}".encode("utf-8", "surrogatepass")
        return text.encode("utf-8", "surrogatepass")

    def _replaced(self, value: Any) -> Any:
        """`value` with something in it replaced, left out, added or under another name."""
        chance = self._chance
        if not isinstance(value, list | dict) or not value or chance.random() < 0.15:
            return deepcopy(chance.choice(VALUES))
        if isinstance(value, list):
            at = chance.randrange(len(value))
            value[at] = self._replaced(value[at])
            if chance.random() < 0.1:
                value += value[at:]
            return value
        name = chance.choice([*value])
        fate = chance.random()
        if fate < 0.08:
            del value[name]
        elif fate < 0.14:
            value[chance.choice([*value, "", "x", "type", "id"])] = deepcopy(chance.choice(VALUES))
        else:
            value[name] = self._replaced(value[name])
        return value
