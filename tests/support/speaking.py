"""A server whose black box says what a test tells it to, in a chat template with reasoning and tools."""

import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.app import create_app
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.serving.ports import Backends
from deltaserve.server.settings import Settings
from deltaserve.server.upstream.base import Capabilities
from tests.support.app import (
    END,
    FlatVersion,
    OneVersion,
    RunningApp,
    ScriptedBlackBox,
    ScriptedDraft,
    byte_tokenizer,
    serve,
)

MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
OPENED = "<|im_start|>assistant\n"
# As Qwen 3 has it: the model opens its reasoning itself, unless it is told not to think.
THINKS = (
    "{% if tools %}Call as <tool_call>{{ tools | tojson }}</tool_call>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or () %}<tool_call>{{ c | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
CLOSED = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
OPENS = THINKS.replace(CLOSED, "<think>\n{# </think> #}")  # as DeepSeek R1 has it


def marked_tokenizer(folder: Path, template: str = THINKS, marks: Sequence[str] = MARKS) -> Tokenizer:
    """Bytes, the two ends of turns, and marks as added tokens; those of calls are special ones, as Hermes has them."""
    byte_tokenizer(folder)
    source = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    for number, mark in enumerate(marks):
        token = {"id": END + 1 + number, "content": mark, "special": "call" in mark.lower(), **flags}
        source["added_tokens"].append(token)
    (folder / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    config = {"eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.load(folder)


@dataclass
class SpeakingBox(ScriptedBlackBox):
    """What it says behind a prompt depends on a word in it. Behind the script it ends the turn."""

    tokenizer: Tokenizer | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)
    max_context: int | None = 4096

    @property
    def capabilities(self) -> Capabilities:
        assert self.tokenizer is not None
        return replace(super().capabilities, vocab_size=self.tokenizer.vocab_size)

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator["SpeakingDraft"]:
        self.calls += 1
        yield SpeakingDraft(self, list(token_ids), params)

    def next_id(self, ids: Sequence[int]) -> int:
        assert self.tokenizer is not None
        opened = self.tokenizer.encode(OPENED)
        start = max(n for n in range(len(ids)) if list(ids[n : n + len(opened)]) == opened) + len(opened)
        text = self.tokenizer.decode(ids[:start])
        script = next(script for word, script in self.scripts.items() if word in text.rpartition("user")[2])
        wanted = self.tokenizer.encode(script)
        said = len(ids) - start
        return wanted[said] if said < len(wanted) else END


class SpeakingDraft(ScriptedDraft):
    def _proposal(self) -> Proposal:
        assert isinstance(self.box, SpeakingBox)
        token = self.box.next_id(self.ids)
        self.ids.append(token)
        others = [i for i in b"xyz!" if i != token]
        return Proposal(token, np.array([token, *others]), np.log([0.8, 0.08, 0.05, 0.03, 0.02][: 1 + len(others)]))


@contextmanager
def speaking_app(tokenizer: Tokenizer, scripts: Mapping[str, str], **settings: object) -> Iterator[RunningApp]:
    """`scripts`: what is said, from `<|im_start|>assistant` on, by a word of the question."""
    box = SpeakingBox(tokenizer=tokenizer, scripts=scripts)
    size = tokenizer.vocab_size
    flat = NumpyRow(np.full(size, -math.log(size)), np.zeros(size))
    version = FlatVersion(tokenizer, flat=flat, max_context=4096)
    registry = OneVersion(version)
    app = create_app(Settings(**settings), backends=Backends(box, registry, "tiny"))
    with serve(app) as (server, url):
        yield RunningApp(url, box, version, registry, server, app.state.serving)
