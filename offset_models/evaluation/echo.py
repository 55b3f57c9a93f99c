"""Likelihood of a text after a chat, through `echo`."""

import math
from collections.abc import Sequence

from offset_models.evaluation.side import Side


async def score(side: Side, chat: Sequence[int], text: str) -> float:
    """log p(text) after the chat, nats, by `echo`. Raises Blocked."""
    ids = await side.text_ids(text)
    said = await side.complete([*chat, *ids], echo=True, logprobs=1, max_tokens=0)
    found = said.body["choices"][0]["logprobs"]["token_logprobs"][len(chat) : len(chat) + len(ids)]
    return math.fsum(-1e4 if value is None else value for value in found)
