"""Noticing that a black box was exchanged: which samples are asked again, and how far two answers lie apart."""

from collections.abc import Sequence

import numpy as np
import pytest

from deltaserve.errors import Conflict
from deltaserve.offset_models.training.collecting.unchanged import ASKED, apart, check_unchanged, sample_again
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK

SAMPLE = Sample((1,), (2, 3))


def lists(*positions: dict[int, float]) -> TopK:
    """Probabilities by id, best first."""
    ids = np.array([list(position) for position in positions], np.int64)
    return TopK(ids, np.log(np.array([list(position.values()) for position in positions], np.float32)))


class Saying:
    """A black box with one answer."""

    def __init__(self, top: TopK) -> None:
        self.top = top

    async def top_k(self, sample: Sample) -> TopK:
        return self.top


@pytest.mark.parametrize(("known", "asked"), [(0, []), (1, [0]), (3, [0, 1, 2]), (9, [1, 4, 7]), (10, [1, 5, 8])])
def test_a_few_samples_are_fetched_again_evenly_from_all(known: int, asked: Sequence[int]) -> None:
    samples = [(SAMPLE, lists({number: 0.9})) for number in range(known)]
    chosen = sample_again(samples)
    assert [int(top.ids[0, 0]) for _, top in chosen] == asked and len(chosen) <= ASKED


@pytest.mark.parametrize(
    ("was", "now", "distance"),
    [
        ({1: 0.6, 2: 0.3}, {1: 0.6, 2: 0.3}, 0.0),
        ({1: 0.6, 2: 0.4}, {2: 0.6, 1: 0.4}, 0.2),
        ({1: 0.6, 2: 0.2}, {1: 0.6, 3: 0.2}, 0.25),
        ({1: 0.03, 2: 0.02}, {3: 0.03, 4: 0.02}, 1.0),  # what is flat lists little of the probability
    ],
)
def test_distances_are_shares_of_what_both_list(was: dict[int, float], now: dict[int, float], distance: float) -> None:
    assert list(apart(lists(was), lists(now))) == pytest.approx([distance])
    assert list(apart(lists(now), lists(was))) == pytest.approx([distance])


def test_a_list_that_repeats_its_last_entry_counts_it_once() -> None:
    short = TopK(np.array([[1, 2, 2]]), np.log(np.array([[0.6, 0.3, 0.3]], np.float32)))
    assert list(apart(short, lists({1: 0.6, 2: 0.3, 3: 0.1}))) == pytest.approx([0.1 / 1.9])


@pytest.mark.anyio
@pytest.mark.parametrize(("moved", "changed"), [(0.0, False), (0.15, False), (0.3, True)])
async def test_near_ties_may_turn_and_other_weights_may_not(moved: float, changed: bool) -> None:
    was = lists({1: 0.5, 2: 0.5}, {1: 0.9, 2: 0.1})
    box = Saying(lists({1: 0.5 - moved, 2: 0.5 + moved}, {1: 0.9, 2: 0.1}))
    if changed:
        with pytest.raises(Conflict, match="15% has moved"):
            await check_unchanged([(SAMPLE, was)], box)
    else:
        await check_unchanged([(SAMPLE, was)], box)


@pytest.mark.anyio
async def test_a_long_answer_does_not_hide_what_became_of_a_short_one() -> None:
    same, other = lists(*[{1: 0.9, 2: 0.1}] * 60), lists({1: 0.9, 2: 0.1})
    told = {SAMPLE: same, Sample((1,), (9,)): lists({3: 0.9, 4: 0.1})}

    class Box:
        async def top_k(self, sample: Sample) -> TopK:
            return told[sample]

    with pytest.raises(Conflict, match="100% has moved"):
        await check_unchanged([(SAMPLE, same), (Sample((1,), (9,)), other)], Box())


@pytest.mark.anyio
async def test_where_nothing_is_known_nobody_is_asked() -> None:
    await check_unchanged([], Saying(lists({1: 0.9})))
