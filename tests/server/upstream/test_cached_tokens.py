"""Prompt tokens that a black box says it had in its cache, in the shapes in which servers say so."""

from typing import Any

import pytest

from deltaserve.server.upstream.ledger import Ledger

PROMPT = {"completion_tokens": 3, "prompt_tokens": 40}


@pytest.mark.parametrize(
    ("said", "cached"),
    [
        ({}, 0),
        ({"prompt_tokens_details": None}, 0),
        ({"prompt_tokens_details": {"cached_tokens": 32}}, 32),
        ({"prompt_tokens_details": {"cached_tokens": None}}, 0),
        ({"prompt_tokens_details": {"cached_tokens": 99}}, 40),
        ({"prompt_tokens_details": {"cached_tokens": True}}, 0),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, 0),
        ({"prompt_tokens_details": "some"}, 0),
        ({"prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 24}, 16),
    ],
)
def test_what_is_said_of_the_cache_is_counted_and_nothing_else(said: dict[str, Any], cached: int) -> None:
    ledger = Ledger(hides_tokens=False)
    ledger.read_usage(PROMPT | said)
    assert (ledger.read, ledger.cached) == (40, cached)
