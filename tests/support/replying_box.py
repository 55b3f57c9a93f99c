"""A black box that says what it is told, with tools and reasoning, behind real HTTP; and a pair of its vocabulary.

To the server it is a vLLM of some few hundred tokens. What it says is written down by question (`REPLIES`), so a client
can be shown what no model of a few MB says by itself: calls of tools, a thought, a JSON text.
"""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.blackbox import make_model
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import UNTIL_THE_CLIENT_LEAVES, Answer, Reply, Request, replaying

CONTEXT: Final = 4096  # tokens
ADDED: Final = ("<tool_call>", "</tool_call>", "<think>", "</think>")  # seen by their ids, as in Qwen 3's tokenizer
TURN: Final = "<|im_start|>assistant\n"
STARTED_WITHIN_S: Final = 10.0

# Hermes' form of tools, as Qwen 2.5 and 3 have it; thinking can be switched off as in Qwen 3.
TEMPLATE: Final = r"""
{%- set first = messages[0].content if messages[0].role == 'system' else '' %}
{%- if tools or first %}{{- '<|im_start|>system\n' + first }}
{%- if tools %}{{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' }}
{{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
{%- for tool in tools %}{{- '\n' + tool | tojson }}{%- endfor %}
{{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within ' }}
{{- '<tool_call></tool_call> XML tags:\n<tool_call>\n' }}
{{- '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' }}{%- endif %}
{{- '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
{%- if loop.first and message.role == 'system' %}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
{{- '}\n</tool_call>' }}{%- endfor %}
{%- if not (loop.last and continue_final_message) %}{{- '<|im_end|>\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""


def call(name: str, arguments: object) -> str:
    """A call of a tool as the model writes it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


PERSON: Final = {"name": "Ada", "age": 36}
PLAIN: Final = "The register lists Ada, a clockmaker."
THOUGHT, ANSWER = "Two and two, counted on fingers.", "It is four."
LONG: Final = "A word and another word. " * 20

# What it says where the last question has this word, the first that fits: the first reply with tools, else the second.
REPLIES: Final[dict[str, tuple[str, str]]] = {
    "cities": (call("weather", {"city": "Oslo"}) + "\n" + call("weather", {"city": "Rome"}), "Oslo and Rome."),
    "weather": (call("weather", {"city": "Oslo"}), "I cannot look out of the window."),
    "person": (call("{first}", PERSON), json.dumps(PERSON)),
    "think": (f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}", f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"),
    "Wait": (LONG, LONG),
}
AFTER_A_RESULT: Final = "It is 21 degrees there."


def make_speaking_model(folder: Path) -> Path:
    """As `make_model`, with the marks of tools and of thoughts as tokens, and a template that has a place for them."""
    make_model(folder, max_len=CONTEXT)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in ADDED])
    backend.save(str(folder / "tokenizer.json"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": "<|im_end|>", "chat_template": TEMPLATE}))
    return folder


@dataclass
class Speaker:
    """Ids of what is said next, from ids of a conversation."""

    tokenizer: Tokenizer

    def next_id(self, ids: list[int]) -> int | None:
        """None where what was said so far is not the beginning of the reply."""
        conversation, turn, said = self.tokenizer.decode(ids).rpartition(TURN)
        if not turn:
            return None
        reply = self.reply(conversation, said) + "<|im_end|>"
        rest = reply[len(said) :] if reply.startswith(said) else ""
        return self.tokenizer.encode(rest)[0] if rest else None

    def reply(self, conversation: str, said: str) -> str:
        """By the last question's word; without a thought where the template has closed it."""
        question = conversation.rpartition("<|im_start|>user\n")[2]
        if "<tool_response>" in question:
            return AFTER_A_RESULT
        tools = re.findall(r'"name": "([^"]+)"', conversation.partition("<tools>\n")[2].partition("</tools>")[0])
        found = next((both for word, both in REPLIES.items() if word in question), (PLAIN, PLAIN))
        text = found[0 if tools else 1].replace("{first}", tools[0] if tools else "")
        closed = "<think>\n\n</think>\n\n"
        return closed + text.rpartition("</think>\n\n")[2] if said.startswith(closed) else text


def speaking(tokenizer: Tokenizer) -> Answer:
    """What answers each request; to `Wait` it begins to answer, and goes on when the client has left."""
    speaker = Speaker(tokenizer)
    ends = frozenset(tokenizer.eos_ids)
    box = FakeUpstream("vllm", tokenizer, tokenizer.vocab_size, says=speaker.next_id, ends=ends, name="speaking")
    box.context = CONTEXT

    def answer(request: Request) -> Reply:
        reply = box(request)
        prompt = request.body.get("prompt") if isinstance(request.body, dict) else None
        waits = isinstance(prompt, list) and isinstance(prompt[0], int) and "Wait" in tokenizer.decode(prompt)
        return replace(reply, pieces=[*reply.pieces[:8], UNTIL_THE_CLIENT_LEAVES]) if waits else reply

    return answer


@contextmanager
def in_a_thread(answer: Answer) -> Iterator[str]:
    """Its address on loopback; the thread ends with the context."""
    loop, started, ended, url = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), list[str]()

    async def serve() -> None:
        async with replaying(answer) as replay:
            url.append(replay.url)
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert started.wait(STARTED_WITHIN_S)
        yield url[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(STARTED_WITHIN_S)
        loop.close()
