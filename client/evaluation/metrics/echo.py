"""Likelihood of a text after a chat, through `echo`."""

import math
from collections.abc import Sequence

from deltaserve.client.evaluation.side import Blocked, Message, Side
from deltaserve.offset_models.tokenizer.continuation import ANCHORS, behind


async def score(side: Side, chat: Sequence[Message], answer: str) -> float:
    """log p(answer) after the chat, nats, by `echo`. Raises Blocked."""
    prompt = await side.ids(chat)
    ids = await _answer_ids(side, chat, prompt, answer)
    said = await side.complete([*prompt, *ids], echo=True, logprobs=1, max_tokens=0)
    found = said.body["choices"][0]["logprobs"]["token_logprobs"][len(prompt) : len(prompt) + len(ids)]
    return math.fsum(-1e4 if value is None else value for value in found)


async def _answer_ids(side: Side, chat: Sequence[Message], prompt: Sequence[int], answer: str) -> list[int]:
    """Encoded behind the chat, as the template writes it; else behind other words that no token joins it to."""
    try:
        found = behind(prompt, await side.ids([*chat, {"role": "assistant", "content": answer}]))
    except Blocked:  # a template that rewrites such an answer
        found = None
    for anchor in ANCHORS if found is None else ():
        found = behind(await side.text_ids(anchor), await side.text_ids(anchor + answer))
        if found is not None:
            break
    return await side.text_ids(answer) if found is None else found
