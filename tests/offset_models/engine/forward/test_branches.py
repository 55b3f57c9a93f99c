"""Several ways on behind a sequence in one pass, against one plain forward for each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from deltaserve.offset_models.engine.answering.branching import AT_ONCE, fans
from deltaserve.offset_models.engine.forward.branches import Branches, Growing
from deltaserve.offset_models.engine.forward.runner import SPARE_SLOTS, Runner, Work
from tests.support.models import FUSED, MAKERS, VOCAB, name_of, plain_logits, random_adapter, tiny_llama

SLOTS, MAX_LEN = 3, 64
WAYS = [(make, False) for make in MAKERS] + [(make, True) for make in FUSED]

tokens = st.integers(0, VOCAB - 1)
paths = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=6)


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{name_of(way[0])}{' in pages' * way[1]}")
def models(request: pytest.FixtureRequest) -> tuple[Runner, PreTrainedModel]:
    make, paged = request.param
    return Runner(make(), SLOTS, MAX_LEN, paged=paged), make()


def branches(*paths: tuple[int, list[int]]) -> tuple[Branches, list[tuple[int, ...]]]:
    """Of (start, tokens), and the paths in the order of their rows."""
    tree = Growing()
    for start, path in paths:
        tree.add(start, path, (start, *path))
    made = tree.done()
    return made, [tree.ends[place] for place in made.wanted]


def assert_close(got: torch.Tensor, wanted: list[torch.Tensor]) -> None:
    torch.testing.assert_close(got, torch.stack(wanted), atol=1e-4, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_the_rows_of_any_branches_are_those_of_their_paths_alone(
    models: tuple[Runner, PreTrainedModel], data: st.DataObject
) -> None:
    runner, plain = models
    held = data.draw(st.lists(tokens, min_size=1, max_size=12))
    new = data.draw(st.lists(tokens, max_size=3))
    runner.forward([Work(1, 0, held)])
    ids = held + new
    ways = [(data.draw(st.integers(1, len(ids))), path) for path in data.draw(paths)]
    tree, named = branches(*ways)
    beside = Work(0, 0, [1, 2, 3], rows=2)
    got, other = runner.forward([Work(1, len(held), new, rows=len(new), branches=tree), beside])
    whole = plain_logits(plain, ids)
    wanted = [whole[n] for n in range(len(held), len(ids))]
    assert_close(got, wanted + [plain_logits(plain, [*ids[:start], *path])[-1] for start, *path in named])
    assert_close(other, list(plain_logits(plain, [1, 2, 3])[-2:]))
    (after,) = runner.forward([Work(1, len(ids), [7])])
    assert_close(after, [plain_logits(plain, [*ids, 7])[-1]])


def test_branches_of_an_adapter_and_of_the_base_run_in_one_pass() -> None:
    bare, adapted = Runner(tiny_llama(), SLOTS, MAX_LEN), Runner(tiny_llama(), SLOTS, MAX_LEN)
    for runner in (bare, adapted):
        runner.adapters.add(random_adapter(tiny_llama(), 4))
    tree, named = branches((3, [1, 2]), (2, [5]), (3, [1]))
    together = bare.forward([Work(0, 0, [1, 2, 3], None, 0, tree), Work(2, 0, [1, 2, 3], 0, 0, tree)])
    for logits, adapter in zip(together, (None, 0), strict=True):
        for row, (start, *path) in zip(logits, named, strict=True):
            (wanted,) = adapted.forward([Work(1, 0, [1, 2, 3][:start] + path, adapter)])
            torch.testing.assert_close(row, wanted[0], atol=1e-4, rtol=1e-4)


def test_more_ways_on_than_there_are_spare_slots_of_pages() -> None:
    runner, plain = Runner(tiny_llama(), SLOTS, MAX_LEN, paged=True), tiny_llama()
    runner.forward([Work(0, 0, [1, 2, 3])])
    tree, named = branches(*((3, [i, 5]) for i in range(SPARE_SLOTS + 3)))
    (got,) = runner.forward([Work(0, 3, [], rows=0, branches=tree)])
    assert_close(got, [plain_logits(plain, [1, 2, 3, *path])[-1] for _, *path in named])


def test_a_token_that_paths_begin_with_is_there_once() -> None:
    tree, named = branches((4, [1, 2]), (4, [1, 3]), (4, [1]))
    assert tree == Branches((1, 2, 3), (4, 4, 4), (-1, 0, 0), (0, 1, 2))
    assert named == [(4, 1), (4, 1, 2), (4, 1, 3)]
    assert tree.positions == [4, 5, 5]


def test_a_path_begins_behind_the_ids_that_it_goes_along() -> None:
    ((named, tree),) = fans([1, 2, 3, 4], 2, [(3, 4), (3, 9), (8,)], 50)
    assert named == [(3, 4), (3, 9), (8,)]
    assert (tree.token_ids, tree.starts, tree.parents) == ((4, 9, 8), (3, 3, 2), (-1, -1, -1))


def test_paths_that_do_not_fit_together_go_one_after_the_other() -> None:
    made = list(fans([1], 1, [(i, 1, 2) for i in range(AT_ONCE)], 10))
    assert all(len(tree.token_ids) <= 10 for _, tree in made)
    assert sorted(name for named, _ in made for name in named) == [(i, 1, 2) for i in range(AT_ONCE)]
