"""Requests that are meant to hold the server up, each as large as the default max_body_bytes lets it be."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

LARGEST: Final = 4_000_000  # bytes; the default of max_body_bytes
COMPLETIONS: Final = "/v1/completions"
CHAT: Final = "/v1/chat/completions"
HELLO: Final = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request; `path` is of a public POST route."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


def hostile_requests(largest: int = LARGEST) -> Iterator[Hostile]:
    """All of them; `largest` bytes is what the largest have."""
    yield from _parsing(largest)
    yield from _fields(largest)
    yield from _lists(largest)
    yield from _texts(largest)
    yield from _chats(largest)


def _parsing(largest: int) -> Iterator[Hostile]:
    """What a JSON parser takes long over."""
    for name, item in {"lists": b"[1],", "empty objects": b"{},", "numbers": b"1,", "strings": b'"a",'}.items():
        items = item * ((largest - 30) // len(item))
        yield Hostile(f"{name} in an unknown field", COMPLETIONS, b'{"prompt":"a","x":[%b]}' % items[:-1])
    yield Hostile("open brackets", COMPLETIONS, b"[" * largest)
    yield Hostile("nested lists", COMPLETIONS, b'{"x":%b%b}' % (b"[" * (largest // 2 - 9), b"]" * (largest // 2 - 9)))
    yield Hostile("digits", COMPLETIONS, b'{"prompt":"a","seed":%b}' % (b"9" * (largest - 30)))
    yield Hostile("backslashes", COMPLETIONS, b'{"prompt":"%b"}' % (b"\\" * (2 * (largest // 2) - 20)))
    yield Hostile("emoji as escapes", COMPLETIONS, b'{"prompt":"%b"}' % (b"\\ud83d\\ude00" * (largest // 12 - 2)))
    yield Hostile("white space", COMPLETIONS, b"{%b}" % (b" " * (largest - 2)))
    yield Hostile("spaced digits", COMPLETIONS, b"[%b]" % (b"1 " * (largest // 2 - 2)))
    yield Hostile("letters and digits", COMPLETIONS, b"[%b]" % (b"1a" * (largest // 2 - 2)))
    yield Hostile(
        "the most values", COMPLETIONS, b'{"prompt":[[%b]]}' % b",".join([b"1"] * (min(largest, 4_000_000) // 16))
    )
    yield Hostile("no JSON", COMPLETIONS, b"\x00\xff" * (largest // 2))


def _fields(largest: int) -> Iterator[Hostile]:
    for count in (120, 10_000, largest // 24):
        fields = {f"temperatur{number:06d}": 1 for number in range(count)}
        yield _json(f"{count:,} unknown fields", COMPLETIONS, prompt="a", **fields)
    yield _json(
        "names of fields",
        COMPLETIONS,
        prompt="a",
        **{f"{n}{'temperature' * 2000}": 1 for n in range(largest // 24_000)},
    )
    for count in (2000, min(150_000, largest // 12)):
        bias = {str(number): 1.0 for number in range(count)}
        yield _json(f"{count:,} logit_bias entries", COMPLETIONS, prompt="a", max_tokens=8, logit_bias=bias)


def _lists(largest: int) -> Iterator[Hostile]:
    ids = largest // 4
    yield _json("a prompt of ids", COMPLETIONS, prompt=[10] * ids)
    yield _json("ids and a string", COMPLETIONS, prompt=[10] * min(ids, 250_000) + ["x"])
    yield _json("lists of ids and a string", COMPLETIONS, prompt=[[10] * 1000] * min(ids // 1000, 250) + [["x"]])
    yield _json("no ids", COMPLETIONS, prompt=[True] * min(ids, 250_000))
    yield _json("prompts", COMPLETIONS, prompt=["a"] * (ids - 100))
    yield _json("long prompts", COMPLETIONS, prompt=["word " * (largest // 1300)] * 256)
    yield _json(
        "echoed prompts of ids", COMPLETIONS, prompt=[[10] * 900] * min(256, largest // 3600), echo=True, max_tokens=0
    )
    yield _json("stop strings", COMPLETIONS, prompt="a", stop=["a" * 40] * (largest // 45))
    yield _json("a long stop string", COMPLETIONS, prompt="a", stop="a" * (largest - 60))
    yield _json("stop ids", COMPLETIONS, prompt="a", stop_token_ids=["a"] * (largest // 6))
    for count in (250_000, largest // 4):
        yield _json(f"{count:,} ids", "/detokenize", tokens=[10] * count)


def _texts(largest: int) -> Iterator[Hostile]:
    texts = {"words": "word ", "one letter": "a", "spaces": " ", "chinese": "漢", "controls": "\x00"}
    for name, text in texts.items():
        long = text * (largest // max(len(json.dumps(text, ensure_ascii=False).encode()) - 2, 1) - 100)
        yield _json(f"a prompt of {name}", COMPLETIONS, prompt=long)
        yield _json(f"{name} to tokenize", "/tokenize", prompt=long)
        yield _json(
            f"400,000 characters of {name} to tokenize", "/tokenize", prompt=long[:400_000], return_token_strs=True
        )
        yield _json(f"a chat of {name}", CHAT, messages=[{"role": "user", "content": long}])
    yield _json("100,000 letters", COMPLETIONS, prompt="a" * 100_000)
    yield _json("a model name", COMPLETIONS, prompt="a", model="m" * (largest - 60))


def _chats(largest: int) -> Iterator[Hostile]:
    for count in (4096, largest // 44):
        messages = [{"role": "user", "content": "hi"}] * count
        yield _json(f"{count:,} messages", CHAT, messages=messages)
        yield _json(f"{count:,} messages to tokenize", "/tokenize", messages=messages)
    parts = [{"type": "text", "text": "a"}] * min(30_000, largest // 40)
    yield _json("content parts", CHAT, messages=[{"role": "user", "content": parts}])
    yield _json("no content parts", CHAT, messages=[{"role": "user", "content": ["a"] * min(65_000, largest // 6)}])
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 100}}] * min(16_000, largest // 180)
    yield _json("tools", CHAT, messages=HELLO, tools=tools, tool_choice="none")
    yield _json("template arguments", CHAT, messages=HELLO, chat_template_kwargs={str(n): n for n in range(30_000)})
    yield _json("a message of many fields", CHAT, messages=[{**HELLO[0], **{f"x{n}": n for n in range(30_000)}}])


def _json(name: str, path: str, /, **body: Any) -> Hostile:
    return Hostile(name, path, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
