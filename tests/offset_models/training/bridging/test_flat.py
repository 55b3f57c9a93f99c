"""What is kept of an aligned row is that row."""

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from hypothesis import given, settings

from deltaserve.offset_models.training.bridging.flat import aligned_from, numbers_of
from tests.offset_models.training.bridging.tiny_bridge import bpes, read, seeds, texts
from tests.support.bridging import RandomPair


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if is_dataclass(one):
        for each in fields(one):
            assert_same(getattr(one, each.name), getattr(other, each.name))
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert one.equal(other)
    else:
        assert one == other


@settings(max_examples=20, deadline=None)
@given(bpes, bpes, seeds, texts)
def test_a_row_comes_back_from_its_numbers_as_it_was(box, mine, seed, text):
    aligned = read(box, mine, RandomPair(mine, seed), text).aligned
    assert_same(aligned_from(numbers_of(aligned)), aligned)
