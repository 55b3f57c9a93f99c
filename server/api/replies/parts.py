"""Parts → chat's JSON: a delta for each while they come, one message of all of them at the end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from deltaserve.server.answers.choice_reader import merged
from deltaserve.server.answers.parts import CallArguments, CallBegun, Content, Part, Reasoning
from deltaserve.server.api.replies.writers import ChoiceBuffer

Json = dict[str, Any]


@dataclass(slots=True)
class PartsBuffer(ChoiceBuffer):
    """A choice that is parsed: what it says lies in its parts."""

    parts: list[Part] = field(default_factory=list)  # not sent yet
    silent: bool = True  # nothing was said so far

    def say(self, parts: Iterable[Part]) -> None:
        self.text.clear()
        self.parts += parts
        self.silent = self.silent and not self.parts

    def take_deltas(self) -> list[bytes]:
        """A delta for each part, neighbours of one kind together; an answer that ends without a word says nothing."""
        parts, self.parts = merged(self.parts), []
        if not parts and self.finish_reason is not None:
            return [b'{"content":""}' if self.silent else b"{}"]
        return [orjson.dumps(_delta(part)) for part in parts]

    def no_rest(self) -> bytes:
        """The fields of `take_rest` in a chunk that is not the last of a batch: they come with that one."""
        ids = b',"token_ids":[]' if self.with_ids else b""
        rows = b"" if self.explain is None else b',"explain":[]'
        return b'"logprobs":null,"finish_reason":null,"stop_reason":null%b%b' % (ids, rows)

    def take_message(self) -> bytes:
        parts, self.parts = merged(self.parts), []
        return orjson.dumps(_message(parts))


def _delta(part: Part) -> Json:
    if isinstance(part, Content):
        return {"content": part.text}
    if isinstance(part, Reasoning):
        return _reasoning(part.text)
    return {"tool_calls": [{"index": part.index, **_begun(part)} if isinstance(part, CallBegun) else _grown(part)]}


def _begun(part: CallBegun) -> Json:
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": ""}}


def _grown(part: CallArguments) -> Json:
    return {"index": part.index, "function": {"arguments": part.text}}


def _reasoning(text: str) -> Json:
    """Under both names that clients read: DeepSeek's, and that of vLLM, OpenRouter and Ollama."""
    return {"reasoning_content": text, "reasoning": text}


def _message(parts: Sequence[Part]) -> Json:
    """`content` is null where something else was said in its place."""
    content = "".join(part.text for part in parts if isinstance(part, Content))
    message: Json = {"role": "assistant", "content": content if content or not parts else None, "refusal": None}
    if thought := "".join(part.text for part in parts if isinstance(part, Reasoning)):
        message |= _reasoning(thought)
    if calls := _calls(parts):
        message["tool_calls"] = calls
    return message


def _calls(parts: Sequence[Part]) -> list[Json]:
    calls = {part.index: _begun(part) for part in parts if isinstance(part, CallBegun)}
    for part in parts:
        if isinstance(part, CallArguments):
            calls[part.index]["function"]["arguments"] += part.text
    return list(calls.values())
