"""How many tokens a request makes an upstream read, for its limits of tokens a minute."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

_BYTES_A_TOKEN: Final = 4


def tokens_of(body: Mapping[str, Any]) -> int:
    """Exact where prompts are ids; of text an estimate. What is generated is counted as it comes."""
    prompt = body.get("prompt", body.get("input_ids", body.get("messages")))
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        return len(prompt)
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], list):
        return sum(map(len, prompt))
    return len(orjson.dumps(prompt)) // _BYTES_A_TOKEN
