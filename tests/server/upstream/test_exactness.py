"""What the doctor says a black box means for answers."""

from dataclasses import replace

import pytest

from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.exactness import exactness

GOOD = Capabilities(
    dialect="vllm", server="vLLM", model="m", k=20, max_k=20, vocab_size=None, max_context=None, ids_in=True,
    ids_out=True, raw_logprobs=True, prompt_list=True, prompt_logprobs=True, prefix_cache=True,
)  # fmt: skip


def test_a_black_box_of_ids_is_exact_where_its_list_goes() -> None:
    said = exactness(GOOD)
    assert said["lists"] == "20 tokens at each position, by their ids; the rest is imputed from the pair"
    assert "any temperature" in said["probabilities"] and "exactly the emitted tokens" in said["prompts"]
    assert said["a restart costs"] == "a call; its prefix cache has all but the last tokens"


@pytest.mark.parametrize("dialect", ["together", "ollama", "deepseek", "chat", "openrouter"])
def test_a_black_box_of_texts_is_said_to_be_one(dialect: str) -> None:
    said = exactness(replace(GOOD, dialect=dialect, ids_in=False, ids_out=False, prefix_cache=None))  # type: ignore[arg-type]
    assert "by their texts" in said["lists"] and "certified" in said["lists"]
    assert said["prompts"].startswith("chats" if dialect in ("deepseek", "chat", "openrouter") else "texts")
    assert ("billed" in said["a restart costs"]) is (dialect in ("together", "deepseek", "openrouter"))


def test_numbers_after_the_temperature_and_a_cache_that_is_off_are_said() -> None:
    said = exactness(replace(GOOD, raw_logprobs=False, greedy_raw=True, prefix_cache=False))
    assert "after the temperature" in said["probabilities"] and "greedy lists are its own" in said["probabilities"]
    assert "the whole prompt, computed anew" in said["a restart costs"]
